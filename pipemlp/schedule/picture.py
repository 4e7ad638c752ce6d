"""What is drawn of a step, simulated or measured: bars in rows, one row per stage, on one time axis."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from pipemlp.schedule.action import COMPUTE_KINDS, Action, Kind
from pipemlp.schedule.schedule import Schedule
from pipemlp.schedule.simulation import Simulation

MEANINGS: dict[Kind, str] = {
    "F": "forward",
    "B": "backward",
    "I": "input gradient",
    "W": "weight gradient",
}
"""The kinds of bars in the order of legends; a bar of any other kind is a wait for a transfer."""
WAIT_MEANING = "waiting for a transfer"


class Bar(NamedTuple):
    """What `stage` does from `start` to `end`; an action that sends or receives stands for waiting for it."""

    stage: int
    start: float
    end: float
    action: Action

    @property
    def computes(self) -> bool:
        """Whether the stage works in this time; otherwise it waits."""
        return self.action.kind in COMPUTE_KINDS


@dataclass(frozen=True)
class Picture:
    """A step, ready to be drawn.

    Args:
        title, caption: what was run, and what came out.
        stages: the rows from top to bottom.
        num_stages, num_virtual_stages: of the whole schedule, of which `stages` may be a part.
        bars: in any order; computations of one stage do not overlap.
        makespan: end of the time axis, which starts at 0.
        seconds: whether times are seconds, or in the unit in which the costs were given.
    """

    title: str
    caption: str
    stages: tuple[int, ...]
    num_stages: int
    num_virtual_stages: int
    bars: tuple[Bar, ...]
    makespan: float
    seconds: bool = False

    def turn_of(self, action: Action) -> int:
        """Which of its stage's virtual stages the action belongs to: 0 for the first."""
        return action.virtual_stage // self.num_stages


def picture_of(simulation: Simulation, stages: Sequence[int] | None = None, *, seconds: bool = False) -> Picture:
    """A simulated step as a picture, of all stages or of some of them."""
    schedule = simulation.schedule
    drawn = tuple(range(schedule.num_stages) if stages is None else stages)
    return Picture(
        title=f"{schedule.name}: {sizes_text(schedule)}",
        caption=f"makespan {time_text(simulation.makespan, seconds)}, bubble {simulation.bubble_fraction:.1%}",
        stages=drawn,
        num_stages=schedule.num_stages,
        num_virtual_stages=schedule.num_virtual_stages,
        bars=tuple(
            Bar(stage, start, end, action)
            for stage in drawn
            for start, end, action in zip(
                simulation.starts[stage], simulation.ends[stage], schedule.actions[stage], strict=True
            )
        ),
        makespan=simulation.makespan,
        seconds=seconds,
    )


def sizes_text(schedule: Schedule) -> str:
    """`4 stages x 2 virtual stages, 8 micro-batches`."""
    stages = f"{schedule.num_stages} stage{'s' * (schedule.num_stages != 1)}"
    virtual = f" x {schedule.num_virtual_stages} virtual stages" if schedule.num_virtual_stages > 1 else ""
    return f"{stages}{virtual}, {schedule.num_micro_batches} micro-batch{'es' * (schedule.num_micro_batches != 1)}"


def time_text(time: float, seconds: bool) -> str:
    """Six digits at most; with a unit, if it is known to be seconds."""
    if not seconds or not time:
        return f"{time:.6g}"
    for unit, size in (("s", 1.0), ("ms", 1e-3)):
        if abs(time) >= size:
            return f"{time / size:.4g} {unit}"
    return f"{time * 1e6:.4g} us"


def axis_marks(end: float, most: int) -> tuple[float, ...]:
    """Round times from 0 to `end`, at most `most` of them beside 0: steps of 1, 2 or 5 times a power of ten."""
    if end <= 0.0:
        return (0.0,)
    power = 10.0 ** _floor_log10(end / most)
    step = next(factor * power for factor in (1.0, 2.0, 5.0, 10.0) if factor * power * most >= end * (1.0 - 1e-9))
    return tuple(index * step for index in range(int(end / step * (1.0 + 1e-9)) + 1))


def _floor_log10(value: float) -> int:
    return int(f"{value:e}".partition("e")[2])
