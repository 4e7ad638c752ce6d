"""What a simulated step looks like: when every action ran, and what it cost in time and memory."""

from dataclasses import dataclass

from pipemlp.schedule.action import Action
from pipemlp.schedule.schedule import Schedule


@dataclass(frozen=True)
class Simulation:
    """The clocked schedule.

    Args:
        schedule: what was clocked.
        starts, ends: seconds of every action, parallel to `schedule.actions`.
        makespan: seconds from the first start to the last end.
        busy: seconds that each stage computes.
        critical_path: actions in order of time, each of which delays the next; their seconds and the hops between
            them add up to the makespan.
        peak_bytes: the most that each stage holds after an action, by the rules of `Costs`.
        peak_in_flight: the most micro-batches that each stage holds between forward and last gradient, in whole
            stages (a virtual stage counts its share).
    """

    schedule: Schedule
    starts: tuple[tuple[float, ...], ...]
    ends: tuple[tuple[float, ...], ...]
    makespan: float
    busy: tuple[float, ...]
    critical_path: tuple[Action, ...]
    peak_bytes: tuple[float, ...]
    peak_in_flight: tuple[float, ...]

    @property
    def bubbles(self) -> tuple[float, ...]:
        """Idle share of each stage's time; nothing if the step takes no time."""
        return tuple(1.0 - busy / self.makespan if self.makespan else 0.0 for busy in self.busy)

    @property
    def bubble_fraction(self) -> float:
        """Idle share of all stages' time."""
        return sum(self.bubbles) / self.schedule.num_stages
