"""What the time of a measured step went into, and how well the simulation predicted it.

A stage waits for a message. As long as its producer had not computed it, nobody could have sent it: that is bubble,
which another order of actions may avoid. From then on it was on its way, which only a faster link shortens:

    stage 0   |------- 0F1 -------|
    stage 1   |-- 1F0 --|..bubble.|~transfer wait~|------- 1F1 -------|
"""

from dataclasses import dataclass, replace
from math import fsum
from statistics import median

from pipemlp.schedule.action import Action, Kind
from pipemlp.schedule.costs import Costs
from pipemlp.schedule.measured import Event, MeasuredStep
from pipemlp.schedule.schedule import Schedule
from pipemlp.schedule.simulate import simulate
from pipemlp.schedule.simulation import Simulation


@dataclass(frozen=True)
class TimeShares:
    """Seconds of one stage (or of several), which sum to its makespan.

    Args:
        compute: in forwards and gradients.
        bubble: waiting for what had not been computed yet, before its first computation, and after its last.
        transfer_wait: waiting for what had been computed elsewhere, but was not here yet.
        other: the rest: starting sends and receives, Python.
    """

    compute: float
    bubble: float
    transfer_wait: float
    other: float

    @property
    def total(self) -> float:
        """The sum."""
        return self.compute + self.bubble + self.transfer_wait + self.other

    def share(self, name: str) -> float:
        """A part by its name, as a fraction of all."""
        return float(getattr(self, name)) / self.total if self.total else 0.0


def time_shares(step: MeasuredStep) -> tuple[TimeShares, ...]:
    """What each stage did between the start and the end of the step."""
    begin, end = step.start, step.end
    ends = {event.action: event.end for events in step.computations for event in events}
    result = []
    for events in step.computations:
        compute = fsum(event.end - event.computes_from for event in events)
        waits = [_wait(step.schedule, event, ends, begin) for event in events]
        outside = max(events[0].start - begin, 0.0) + end - events[-1].end
        bubble = fsum([outside, *(bubble for bubble, _ in waits)])
        transfer = fsum(transfer for _, transfer in waits)
        # what a clock's rounding takes from `other` is not worth a negative time
        result.append(TimeShares(compute, bubble, transfer, max(end - begin - compute - bubble - transfer, 0.0)))
    return tuple(result)


def sum_of(shares: tuple[TimeShares, ...]) -> TimeShares:
    """All stages together."""
    names = ("compute", "bubble", "transfer_wait", "other")
    return TimeShares(*(fsum(getattr(own, name) for own in shares) for name in names))


def _wait(schedule: Schedule, event: Event, ends: dict[Action, float], begin: float) -> tuple[float, float]:
    """Seconds of bubble and of transfer in the wait of an action; before the step began nothing counts."""
    producer = producer_of(schedule, event.action, ends)
    start, stop = max(event.start, begin), max(event.computes_from, begin)
    turn = start if producer is None else min(max(ends[producer], start), stop)
    return turn - start, stop - turn


def producer_of(schedule: Schedule, action: Action, ends: dict[Action, float]) -> Action | None:
    """The action on another virtual stage whose result this one needs; None for those that need none.

    Args:
        ends: has a key for every action of the step, by which a `B` is told from an `I`.
    """
    virtual_stage, kind, micro_batch = action
    if kind == "F":
        return Action(virtual_stage - 1, "F", micro_batch) if virtual_stage else None
    if kind == "W" or virtual_stage == schedule.depth - 1:
        return None
    whole = Action(virtual_stage + 1, "B", micro_batch)
    return whole if whole in ends else whole._replace(kind="I")


def median_seconds(step: MeasuredStep) -> dict[tuple[int, Kind], float]:
    """The median duration, waits left out, of each virtual stage's actions of each kind."""
    durations: dict[tuple[int, Kind], list[float]] = {}
    for events in step.computations:
        for event in events:
            key = event.action.virtual_stage, event.action.kind
            durations.setdefault(key, []).append(event.end - event.computes_from)
    return {key: median(durations[key]) for key in sorted(durations)}


def predicted(step: MeasuredStep, costs: Costs) -> Simulation:
    """The same schedule, simulated with costs that are scaled by one factor.

    The factor makes all computations together take as long as they did. What is predicted is the shape of the step:
    how the work is spread over virtual stages and kinds, and so who waits for whom. Its scale is not, as long as the
    costs count operations of a nominal device and are not measured on this one.

    Raises:
        ValueError: if the costs are for other sizes, or all of them are zero.
    """
    unscaled = fsum(simulate(step.schedule, costs).busy)
    if not unscaled:
        raise ValueError("all costs are 0, so that nothing can be predicted")
    factor = fsum(own.compute for own in time_shares(step)) / unscaled
    return simulate(step.schedule, _scaled(costs, factor))


def _scaled(costs: Costs, factor: float) -> Costs:
    """Seconds times the factor; bytes as they are."""
    names = ("forward", "input_gradient", "weight_gradient", "hop")
    seconds = {name: tuple(factor * entry for entry in getattr(costs, name)) for name in names}
    return replace(costs, **seconds, overhead=factor * costs.overhead)


def clock_error(step: MeasuredStep) -> float:
    """Seconds by which the clocks of two stages are apart at least: a message was taken before it was computed."""
    ends = {event.action: event.end for events in step.computations for event in events}
    early = [
        ends[producer] - event.computes_from
        for events in step.computations
        for event in events
        if (producer := producer_of(step.schedule, event.action, ends)) is not None
    ]
    return max([0.0, *early])
