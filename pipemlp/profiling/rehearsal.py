"""What a real pipeline takes besides its layers, from steps of a shortened model with the clock listening.

    action      an action's own time, less that of its layers
    overhead    all else between a rank's first and last action: sends, posted receives, the loop; per action
    hop         from the end of the action that made a tensor to its arrival, where its receiver was waiting
    tail        from the last gradient on any rank to the end of the step: optimizer, loss, batch

The clocks of ranks on one machine are the same clock.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean, median

import numpy as np

from pipemlp.schedule.action import COMPUTE_KINDS, Action
from pipemlp.schedule.measured import Event

KINDS = ("F", "I", "W")
TELLING = 1.5
"""Times between the least and the most work, from which on a line through them means something."""
SMALLEST_FACTOR, LARGEST_FACTOR = 0.8, 1.25
"""Beyond them something else is wrong than how full the caches are."""


@dataclass(frozen=True)
class RankStep:
    """One step on one rank.

    Args:
        started, ended: seconds of the common clock, from the first thing that the step does to its last.
        events: of its actions.
    """

    started: float
    ended: float
    events: tuple[Event, ...]

    @property
    def computed(self) -> list[Event]:
        """The actions that compute."""
        return [event for event in self.events if event.action.kind in COMPUTE_KINDS]


@dataclass(frozen=True)
class Rehearsal:
    """Steps of one shortened model.

    Args:
        layers: for each kind of action the seconds of every virtual stage's layers, as a plan has them.
        num_parameters: of the fullest rank.
        hop_bytes: of the tensors between virtual stages, on average.
        steps: by step, by rank.
        num_layers: with parameters, of the whole shortened model.
    """

    layers: Mapping[str, Sequence[float]]
    num_parameters: int
    hop_bytes: float
    steps: Sequence[Sequence[RankStep]]
    num_layers: int = 1

    def seconds(self, kind: str, virtual_stage: int) -> float:
        """Of an action without its wait: the mean over a step, of the median step."""
        of_steps = []
        for step in self.steps:
            own = [
                event.end - event.computes_from
                for rank in step
                for event in rank.computed
                if event.action.kind == kind and event.action.virtual_stage == virtual_stage
            ]
            of_steps.append(fmean(own))
        return median(of_steps)

    def overhead(self) -> float:
        """Seconds per action that are neither an action's own nor spent waiting, of the median step."""
        return median(_overhead_of(step) for step in self.steps)

    def hop(self) -> float | None:
        """Seconds of a hop; None if nobody waited for a message while it was made."""
        hops = [fmean(own) for own in (list(_hops(step)) for step in self.steps) if own]
        return median(hops) if hops else None

    def tail(self) -> float:
        """Seconds of a step besides its actions, of the median step."""
        return median(_tail_of(step) for step in self.steps)


def action_costs(rehearsals: Sequence[Rehearsal]) -> dict[str, tuple[float, float]]:
    """For each kind of action what it takes besides its layers, and by what the layers' own time is to be multiplied.

    A virtual stage takes `besides + factor x (its layers)`: a line through what was measured, if the shortened
    models differ enough to tell; else the factor is 1.
    """
    costs = {}
    for kind in KINDS:
        points = [
            (run.layers[kind][virtual_stage], run.seconds(kind, virtual_stage))
            for run in rehearsals
            for virtual_stage in range(len(run.layers[kind]))
        ]
        expected, measured = (np.array(column, dtype=float) for column in zip(*points, strict=True))
        factor = 1.0
        if expected.max() > TELLING * expected.min():
            factor = min(max(float(np.polyfit(expected, measured, 1)[0]), SMALLEST_FACTOR), LARGEST_FACTOR)
        costs[kind] = (max(0.0, float(np.median(measured - factor * expected))), factor)
    return costs


def step_seconds(rehearsals: Sequence[Rehearsal], optimizer_seconds: float) -> float:
    """Seconds of a step besides its actions and its optimizer, which takes so many per parameter of a rank."""
    return max(0.0, median(run.tail() - optimizer_seconds * run.num_parameters for run in rehearsals))


def _overhead_of(step: Sequence[RankStep]) -> float:
    rest = number = 0.0
    for rank in step:
        computed = rank.computed
        rest += computed[-1].end - rank.events[0].start - sum(event.end - event.start for event in computed)
        number += len(computed)
    return max(0.0, rest / number)


def _tail_of(step: Sequence[RankStep]) -> float:
    first = min(rank.computed[0].computes_from for rank in step)
    last = max(rank.computed[-1].end for rank in step)
    started, ended = min(rank.started for rank in step), max(rank.ended for rank in step)
    return (ended - last) + (first - started)


def _hops(step: Sequence[RankStep]) -> Iterator[float]:
    """Of all messages that were waited for when they were made."""
    ends = {event.action: event.end for rank in step for event in rank.computed}
    for rank in step:
        for event in rank.computed:
            virtual_stage, kind, micro_batch = event.action
            source = Action(virtual_stage + (-1 if kind == "F" else 1), kind, micro_batch)
            if event.waited and source in ends and ends[source] > event.start:
                yield event.computes_from - ends[source]
