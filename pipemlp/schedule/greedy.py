"""List scheduling: let time run, and give every free stage the most important action that can start.

What is important is a rule: a number for every kind of action and virtual stage, and how it grows with the
micro-batch; the smallest goes first. A stage may also wait for something more important that is about to arrive.

    rule            first                          then                       last
    forward         F of the last virtual stage    I of the oldest            W
    backward        I of the oldest                F of the last              W
    path            F or I with the longest way to the end of the step        W
"""

from collections import deque
from dataclasses import dataclass
from heapq import heappop, heappush
from typing import Literal, NamedTuple

from pipemlp.schedule.problem import BACKWARD, FORWARD, WEIGHT, Order, Problem

NEVER = float("inf")


@dataclass(frozen=True)
class Rule:
    """How to choose.

    Args:
        first: what is most important, as in the table above.
        patience: a stage waits for something more important if that arrives before this share of the action that
            it could start at once.
        reach: how many micro-batches a virtual stage runs ahead at most, between F and I, in units of its distance
            from the end of the pipeline.
        split: whether backwards are split where memory allows it.
    """

    first: Literal["forward", "backward", "path"]
    patience: float
    reach: float = NEVER
    split: bool = True


class _Choice(NamedTuple):
    key: float
    ready: float
    kind: int
    virtual_stage: int


def list_schedule(problem: Problem, rule: Rule) -> Order:
    """The order that a rule makes. It holds the caps if each stage can hold one micro-batch."""
    return _Clock(problem, rule).run()


class _Clock:
    """The state of all stages while time runs. Micro-batches pass every virtual stage in order."""

    def __init__(self, problem: Problem, rule: Rule) -> None:
        depth = problem.depth
        self._problem, self._rule = problem, rule
        self._base, self._step = _keys(problem, rule)
        self._arrivals: list[list[list[float]]] = [[[] for _ in range(depth)] for _ in range(2)]
        self._arrivals[FORWARD][0] = [0.0] * problem.num_micro_batches
        self._next = [[0] * depth for _ in range(2)]
        self._pending: list[deque[int]] = [deque() for _ in range(depth)]  # micro-batches whose W can run
        self._limit = [max(1.0, rule.reach * (depth - v)) for v in range(depth)]
        self._bytes = [0.0] * problem.num_stages
        self._cap = [cap * (1 + 1e-12) for cap in problem.cap]
        self._free = [0.0] * problem.num_stages
        self._wake = [0.0] * problem.num_stages
        self._events = [(0.0, stage) for stage in range(problem.num_stages)]
        self._rows: list[list[int]] = [[] for _ in range(problem.num_stages)]
        self._whole: set[tuple[int, int]] = set()

    def run(self) -> Order:
        while self._events:
            now, stage = heappop(self._events)
            if self._wake[stage] != now:
                continue  # woken earlier
            self._wake[stage] = NEVER
            choice = self._choose(stage, now)
            if choice is not None:
                self._start(stage, now, choice)
        return Order(tuple(map(tuple, self._rows)), frozenset(self._whole), max(self._free))

    def _wake_at(self, stage: int, time: float) -> None:
        time = max(time, self._free[stage])
        if time < self._wake[stage]:
            self._wake[stage] = time
            heappush(self._events, (time, stage))

    def _choose(self, stage: int, now: float) -> _Choice | None:
        """What to start now; None if the stage waits, for what is known to arrive or for anything."""
        possible = self._possible(stage, now)
        startable = [choice for choice in possible if choice.ready <= now]
        if not startable:
            if possible:
                self._wake_at(stage, min(choice.ready for choice in possible))
            return None
        best = min(startable)
        if self._rule.patience > 0.0:
            until = now + self._rule.patience * self._seconds(best.kind, best.virtual_stage)
            better = [choice.ready for choice in possible if choice < best and now < choice.ready < until]
            if better:
                self._wake_at(stage, min(better))
                return None
        return best

    def _possible(self, stage: int, now: float) -> list[_Choice]:
        """The next action of every kind and virtual stage whose input has arrived or is on its way."""
        forwards, backwards = self._next
        found = []
        for v in self._problem.held[stage]:
            for kind, place in ((FORWARD, forwards[v]), (BACKWARD, backwards[v])):
                arrivals = self._arrivals[kind][v]
                if place < len(arrivals) and (kind == BACKWARD or self._admits(stage, v)):
                    key = self._base[kind][v] + self._step[kind] * place
                    found.append(_Choice(key, arrivals[place], kind, v))
            if self._pending[v]:
                key = self._base[WEIGHT][v] + self._step[WEIGHT] * self._pending[v][0]
                found.append(_Choice(key, now, WEIGHT, v))
        return found

    def _admits(self, stage: int, virtual_stage: int) -> bool:
        """Whether a forward has room, and leaves enough to finish the oldest micro-batch that is not through yet.

        A micro-batch that is through all forwards of the stage frees what it holds without needing more; so the
        oldest one that is not can always go on, on every stage, and nothing ever hangs.
        """
        problem, forwards = self._problem, self._next[FORWARD]
        kept, held = problem.kept, problem.held[stage]
        if self._bytes[stage] + kept[virtual_stage] > self._cap[stage]:
            return False
        if forwards[virtual_stage] - self._next[BACKWARD][virtual_stage] >= self._limit[virtual_stage]:
            return False
        if len(held) == 1:
            return True
        after = [forwards[v] + (v == virtual_stage) for v in held]
        through = after[-1]
        others = zip(held, after, strict=True)
        bytes_of_others = sum(kept[v] * (max(count, through + 1) - through) for v, count in others)
        return after[0] == through or bytes_of_others <= self._cap[stage]

    def _seconds(self, kind: int, virtual_stage: int) -> float:
        tables = (self._problem.forward, self._problem.inputs, self._problem.weights)
        return tables[kind][virtual_stage]

    def _start(self, stage: int, now: float, choice: _Choice) -> None:
        problem, kind, v = self._problem, choice.kind, choice.virtual_stage
        end = now + self._seconds(kind, v)
        if kind == WEIGHT:
            micro_batch = self._pending[v].popleft()
            self._bytes[stage] -= problem.pending[v]
        else:
            micro_batch = self._next[kind][v]
            self._next[kind][v] += 1
            if kind == FORWARD:
                self._bytes[stage] += problem.kept[v]
            elif self._can_split(stage, v):
                self._bytes[stage] += problem.pending[v] - problem.kept[v]
                self._pending[v].append(micro_batch)
            else:
                self._bytes[stage] -= problem.kept[v]
                self._whole.add((v, micro_batch))
                end = now + problem.whole[v]
            self._send(kind, v, end)
        self._rows[stage].append((kind * problem.depth + v) * problem.num_micro_batches + micro_batch)
        self._free[stage] = end
        self._wake_at(stage, end)

    def _can_split(self, stage: int, virtual_stage: int) -> bool:
        more = self._problem.pending[virtual_stage] - self._problem.kept[virtual_stage]
        return self._rule.split and self._bytes[stage] + more <= self._cap[stage]

    def _send(self, kind: int, virtual_stage: int, end: float) -> None:
        """Make the result known to the virtual stage that needs it: after the last forward the own backward."""
        problem = self._problem
        if kind == BACKWARD and virtual_stage == 0:
            return
        if kind == FORWARD and virtual_stage == problem.depth - 1:
            receiver, kind = virtual_stage, BACKWARD
        elif kind == FORWARD:
            receiver, end = virtual_stage + 1, end + problem.hop_up[virtual_stage]
        else:
            receiver, end = virtual_stage - 1, end + problem.hop_down[virtual_stage]
        self._arrivals[kind][receiver].append(end)
        self._wake_at(problem.stages[receiver], end)


def _keys(problem: Problem, rule: Rule) -> tuple[list[list[float]], list[float]]:
    """By kind: the importance of micro-batch 0 by virtual stage, and what each later micro-batch adds."""
    depth, num = problem.depth, problem.num_micro_batches
    if rule.first == "path":
        busiest = max(sum(problem.forward[v] + problem.whole[v] for v in held) for held in problem.held)
        forwards, backwards = remaining_seconds(problem)
        return [[-x for x in forwards], [-x for x in backwards], [num * busiest] * depth], [busiest, busiest, 1.0]
    rank = float(depth * num)  # more than a key within one row of the table
    deepest = [-float(v * num) for v in range(depth)]
    oldest = [rank if rule.first == "forward" else -2.0 * rank] * depth
    return [deepest, oldest, [2.0 * rank] * depth], [1.0, 1.0, 1.0]


def remaining_seconds(problem: Problem) -> tuple[list[float], list[float]]:
    """From the start of an F and of an I of every virtual stage to the end of the step, if nothing else is to do."""
    forwards, backwards = [0.0] * problem.depth, [0.0] * problem.depth
    after = 0.0
    for v in range(problem.depth):
        backwards[v] = after = problem.inputs[v] + max(after + problem.hop_down[v], problem.weights[v])
    for v in reversed(range(problem.depth)):
        forwards[v] = after = problem.forward[v] + problem.hop_up[v] + after
    return forwards, backwards
