"""When the actions of an order start, and how much time must pass from each start to the end of the step."""

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass

from pipemlp.schedule.problem import Problem

NOBODY = -1


@dataclass(frozen=True)
class Links:
    """By slot: seconds, bytes added, whose result is needed and who needs the own one, and how long those travel."""

    seconds: list[float]
    bytes_added: list[float]
    source: list[int]
    source_travel: list[float]
    user: list[int]
    user_travel: list[float]


@dataclass(frozen=True)
class Timetable:
    """By slot: start, end, and seconds from its start to the end of the step; `next_slot` is the stage's next."""

    start: list[float]
    end: list[float]
    tail: list[float]
    next_slot: list[int]
    makespan: float


def make_links(problem: Problem, whole: frozenset[tuple[int, int]]) -> Links:
    """The tables of one case, given which (virtual stage, micro-batch) have whole backwards.

    The own F before a backward and the own I before a W need no link: they come earlier on the same stage.
    """
    depth, num = problem.depth, problem.num_micro_batches
    ahead, behind = _by_slot(problem.hop_up[:-1], num), _by_slot(problem.hop_down[1:], num)
    zeros, nobody, span = [0.0] * num, [NOBODY] * num, depth * num
    links = Links(
        seconds=_by_slot((*problem.forward, *problem.inputs, *problem.weights), num),
        bytes_added=_by_slot(
            (
                *problem.kept,
                *(after - before for before, after in zip(problem.kept, problem.pending, strict=True)),
                *(-size for size in problem.pending),
            ),
            num,
        ),
        source=[*nobody, *range(span - num), *range(span + num, 2 * span), *nobody, *([NOBODY] * span)],
        source_travel=[*zeros, *ahead, *behind, *zeros, *([0.0] * span)],
        user=[*range(num, span), *nobody, *nobody, *range(span, 2 * span - num), *([NOBODY] * span)],
        user_travel=[*ahead, *zeros, *zeros, *behind, *([0.0] * span)],
    )
    for v, m in whole:
        slot = span + v * num + m
        links.seconds[slot] = problem.whole[v]
        links.bytes_added[slot] = -problem.kept[v]
    return links


def _by_slot(by_virtual_stage: Sequence[float], num_micro_batches: int) -> list[float]:
    return [entry for entry in by_virtual_stage for _ in range(num_micro_batches)]


def timetable(links: Links, rows: Sequence[Sequence[int]]) -> Timetable | None:
    """The earliest times of an order; None if its stages would wait for each other in a circle."""
    start, end = [0.0] * len(links.seconds), [-1.0] * len(links.seconds)
    sequence: list[int] = []
    position, now = [0] * len(rows), [0.0] * len(rows)
    waiting: dict[int, int] = {}
    todo = deque(range(len(rows)))
    while todo:
        stage = todo.popleft()
        row, time = rows[stage], now[stage]
        for index in range(position[stage], len(row)):
            slot = row[index]
            source = links.source[slot]
            if source != NOBODY:
                if end[source] < 0.0:
                    waiting[source] = stage
                    position[stage] = index
                    break
                time = max(time, end[source] + links.source_travel[slot])
            start[slot] = time
            end[slot] = time = time + links.seconds[slot]
            sequence.append(slot)
            if slot in waiting:
                todo.append(waiting.pop(slot))
        else:
            position[stage] = len(row)
        now[stage] = time
    if waiting:
        return None
    next_slot = [NOBODY] * len(start)
    for row in rows:
        for slot, following in zip(row, row[1:], strict=False):
            next_slot[slot] = following
    return Timetable(start, end, _tails(links, next_slot, sequence), next_slot, max(now))


def _tails(links: Links, next_slot: list[int], sequence: list[int]) -> list[float]:
    tail = [0.0] * (len(next_slot) + 1)  # the last is nobody's
    for slot in reversed(sequence):
        user = links.user[slot]
        after = tail[next_slot[slot]]
        if user != NOBODY:
            after = max(after, tail[user] + links.user_travel[slot])
        tail[slot] = after + links.seconds[slot]
    return tail
