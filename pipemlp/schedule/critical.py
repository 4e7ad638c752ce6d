"""Follow a simulated step from its last end backwards: the chain of actions of which each delays the next."""

from bisect import bisect_left
from collections.abc import Mapping, Sequence

from pipemlp.schedule.action import Action
from pipemlp.schedule.schedule import Schedule
from pipemlp.schedule.waiting import input_of

Place = tuple[int, int]
"""A stage and a position in its list of actions."""


def critical_path(
    schedule: Schedule,
    starts: Sequence[Sequence[float]],
    ends: Sequence[Sequence[float]],
    released: Sequence[Sequence[float]],
    hop: Sequence[float],
    receivers: Mapping[Place, Place],
) -> tuple[Action, ...]:
    """The actions from the first start to the last end, in order of time; their durations and hops add up.

    Args:
        schedule: what was clocked.
        starts, ends: seconds by stage and position.
        released: when the stage could go on after each action; `ends` unless its send held it up.
        hop: seconds [depth - 1] from such a release until the result was at the next stage: zero if the release
            waits for that anyway.
        receivers: for an action whose send may hold up its stage, the receiving stage and how many of that stage's
            actions came before it was ready.
    """

    def cause(place: Place) -> Place:
        """Whose end led to the release after `place`: its own action, or what kept the receiver from being ready."""
        while place in receivers:
            receiver, count = receivers[place]
            if count == 0 or released[receiver][count - 1] <= ends[place[0]][place[1]]:
                break
            place = receiver, count - 1
        return place

    place = max(((stage, len(row) - 1) for stage, row in enumerate(ends) if row), key=lambda at: ends[at[0]][at[1]])
    path = []
    while True:
        stage, position = place
        action, start = schedule.actions[stage][position], starts[stage][position]
        path.append(action)
        if start == 0.0:
            return tuple(reversed(path))
        if position and released[stage][position - 1] == start:
            place = cause((stage, position - 1))
        else:
            place = cause(_maker(schedule, action, start, released, hop))


def _maker(
    schedule: Schedule, action: Action, start: float, released: Sequence[Sequence[float]], hop: Sequence[float]
) -> Place:
    """Where the action stands whose result, arriving at `start`, let `action` begin."""
    source = input_of(schedule, action)
    assert source is not None  # an action without an input starts when its stage is free
    stage = schedule.stage_of(source.virtual_stage)
    away = stage != schedule.stage_of(action.virtual_stage)
    travel = hop[min(source.virtual_stage, action.virtual_stage)] if away else 0.0
    position = bisect_left(released[stage], start, key=lambda release: release + travel)
    while schedule.actions[stage][position] not in (source, source._replace(kind="I" if source.kind == "B" else "F")):
        position += 1
    return stage, position
