"""Clock a schedule with given costs: how long a step takes, who idles, what it holds.

Three stages, four micro-batches of 1F1B, one second for F, two for B, no hops (time runs to the right):

    stage 0   F0 F1 F2 .. .. .. .. B0 B0 F3 B1 B1 .. B2 B2 .. B3 B3
    stage 1   .. F0 F1 .. .. B0 B0 F2 B1 B1 F3 B2 B2 .. B3 B3 .. ..
    stage 2   .. .. F0 B0 B0 F1 B1 B1 F2 B2 B2 F3 B3 B3 .. .. .. ..
"""

from collections.abc import Sequence
from dataclasses import fields, replace
from math import fsum, isfinite
from typing import Literal

from pipemlp.schedule.blocking import HeldClock
from pipemlp.schedule.clock import clock
from pipemlp.schedule.coding import encode, seconds_table
from pipemlp.schedule.costs import Costs, uniform_costs
from pipemlp.schedule.critical import critical_path
from pipemlp.schedule.lower import Program, lower
from pipemlp.schedule.memory import peak_in_flight, peak_kept, peak_with_transfers
from pipemlp.schedule.schedule import Schedule
from pipemlp.schedule.simulation import Simulation

Sends = Literal["buffered", "blocking"]


def simulate(schedule: Schedule, costs: Costs, *, sends: Sends = "buffered") -> Simulation:
    """The times and the memory of one step.

    Args:
        schedule: one that `check` accepts.
        costs: of its virtual stages. An action takes its cost and the overhead; a `B` takes both gradients and one
            overhead.
        sends: `buffered` sends never hold up their stage; a `blocking` one does until the message has been received
            (the rules stand in `blocking.py`; receives are posted where `lower` puts them).

    Raises:
        ScheduleError: if the stages wait for each other; it names who waits for whom.
        ValueError: if the costs are negative, not finite, or for another number of virtual stages.
    """
    check_costs(costs, schedule.depth)
    coded = encode(schedule)
    starts, ends = clock(schedule, coded, costs)
    busy = tuple(fsum(map(seconds_table(costs).__getitem__, codes)) for codes in coded.codes)
    makespan = max(row[-1] for row in ends if row)
    result = Simulation(
        schedule=schedule,
        starts=tuple(map(tuple, starts)),
        ends=tuple(map(tuple, ends)),
        makespan=makespan,
        busy=tuple(min(seconds, makespan) for seconds in busy),  # not above by rounding
        critical_path=critical_path(schedule, starts, ends, ends, costs.hop, {}),
        peak_bytes=peak_kept(coded, costs),
        peak_in_flight=peak_in_flight(schedule, coded),
    )
    if sends == "blocking" or any(costs.hop_bytes):
        programs = _programs(result, costs)
        result = replace(result, peak_bytes=peak_with_transfers(schedule, programs, costs))
        if sends == "blocking":
            return _hold(result, programs, costs)
    return result


def programs(schedule: Schedule, costs: Costs) -> tuple[Program, ...]:
    """What every stage does, its transfers where the simulator counts their bytes.

    Raises:
        ScheduleError, ValueError: as `simulate`.
    """
    return _programs(simulate(schedule, replace(costs, hop_bytes=(0.0,) * (schedule.depth - 1))), costs)


def check_costs(costs: Costs, depth: int) -> None:
    """Refuse costs that are not for `depth` virtual stages, or not finite and positive or zero.

    Raises:
        ValueError: naming the field and the entry.
    """
    for field in fields(costs):
        value = getattr(costs, field.name)
        entries = (value,) if field.name == "overhead" else value
        per_cut = {"hop": depth - 1, "hop_bytes": depth - 1, "shared_bytes": depth - 1 if entries else 0}
        expected = per_cut.get(field.name, 1 if field.name == "overhead" else depth)
        if len(entries) != expected:
            raise ValueError(f"costs.{field.name} has {len(entries)} entries; {depth} virtual stages need {expected}")
        for index, entry in enumerate(entries):
            if not (isfinite(entry) and entry >= 0.0):
                raise ValueError(f"costs.{field.name}[{index}] is {entry}; costs are finite and not negative")


def _programs(simulation: Simulation, costs: Costs) -> tuple[Program, ...]:
    """The lowered programs; from equal costs where some of the true ones are too small to put actions in order."""
    schedule = simulation.schedule
    smallest = min(seconds_table(costs)[: 3 * schedule.depth])
    if smallest <= 1e-9 * simulation.makespan:
        simulation = simulate(schedule, uniform_costs(schedule.num_stages, schedule.num_virtual_stages))
    return lower(simulation)


def _hold(simulation: Simulation, programs: Sequence[Program], costs: Costs) -> Simulation:
    """The same step with sends that hold up their stage."""
    schedule = simulation.schedule
    held = HeldClock(schedule, programs, costs).run()
    path = critical_path(schedule, held.starts, held.ends, held.released, (0.0,) * (schedule.depth - 1), held.receivers)
    makespan = max(row[-1] for row in held.ends)
    return replace(
        simulation,
        starts=tuple(map(tuple, held.starts)),
        ends=tuple(map(tuple, held.ends)),
        makespan=makespan,
        critical_path=path,
    )
