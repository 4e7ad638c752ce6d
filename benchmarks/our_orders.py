"""All our schedules for equal stages; zb-auto with calibrated costs, without a cap and within 1F1B's memory."""

from dataclasses import replace

from calibration import Calibration

from pipemlp.schedule.methods import make_schedule
from pipemlp.schedule.schedule import Schedule

ONE_EACH = ("gpipe", "1f1b", "zb-h1", "zb-h2")
SEVERAL = ("interleaved-1f1b", "interleaved-zb", "zb-v")


def our_orders(num_stages: int, num_micro_batches: int, calibration: Calibration, num_virtual: int) -> list[Schedule]:
    """Schedules with one virtual stage per stage, then those with `num_virtual`."""
    sizes = num_stages, num_micro_batches
    costs = calibration.costs_of(num_stages, num_virtual)
    auto = make_schedule("zb-auto", *sizes, num_virtual, costs=costs)
    frugal = make_schedule("zb-auto", *sizes, num_virtual, costs=costs, memory_cap=float(min(sizes)))
    return [
        *(make_schedule(name, *sizes) for name in ONE_EACH),
        *(make_schedule(name, *sizes, num_virtual) for name in SEVERAL),
        auto,
        replace(frugal, name="zb-auto-1f1b-memory"),
    ]
