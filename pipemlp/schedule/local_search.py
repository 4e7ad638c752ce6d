"""Improve an order: move actions on the critical path before or behind the run of actions they stand in.

    stage 1   ...  F4 [W1 W2 I3] F5 ...      the brackets: one stage's part of the critical path
                   F4 [W2 I3 W1] F5          each of them is moved to either end, or one place on
                   F4 [I3 W1 W2] F5

Only that can shorten a step. The move with the best estimate is made, even if the step gets longer, and may not be
undone for a while (tabu search); the best order met is kept. For the moves and the estimate: Balas and Vazacopoulos,
Management Science 44(2), 1998; Nowicki and Smutnicki, Management Science 42(6), 1996, for job shops.
"""

from collections.abc import Iterator, Sequence
from itertools import accumulate
from typing import NamedTuple

from pipemlp.schedule.problem import WEIGHT, Order, Problem
from pipemlp.schedule.timetable import NOBODY, Links, Timetable, make_links, timetable

TENURE = 25
"""For how many moves an exchange may not be undone."""
REACH = 8
"""How many places an action is moved at most."""
CLOSE = 1e-9
"""Seconds, as a share of the makespan, that are rounding."""


class _Move(NamedTuple):
    """The slots of a stage from `first` on are to be `slots`; `passed` change places with `moved`."""

    estimate: float
    stage: int
    first: int
    slots: list[int]
    moved: int
    passed: list[int]
    is_later: bool


def improve(problem: Problem, order: Order, num_moves: int, bound: float = 0.0) -> Order:
    """The best order met in `num_moves` moves; it holds the caps if the given one does.

    Args:
        problem: the case.
        order: where to start.
        num_moves: how many moves to make.
        bound: a makespan that is good enough to stop.
    """
    search = _Search(problem, order)
    best, best_rows = search.times.makespan, order.rows
    for move_index in range(num_moves):
        if best <= bound * (1 + CLOSE) or not search.move(move_index, best):
            break
        if search.times.makespan < best * (1 - CLOSE):
            best, best_rows = search.times.makespan, tuple(map(tuple, search.rows))
    return Order(best_rows, order.whole, best)


class _Search:
    def __init__(self, problem: Problem, order: Order) -> None:
        self.rows = [list(row) for row in order.rows]
        self._problem = problem
        self._links = make_links(problem, order.whole)
        times = timetable(self._links, self.rows)
        assert times is not None  # a given order can run
        self.times = times
        self._forbidden: dict[tuple[int, int], int] = {}  # (earlier, later): not before this move

    def move(self, index: int, best: float) -> bool:
        """Make the most promising move that is legal and not forbidden; False if there is none."""
        moves = [move for block in self._blocks() for move in self._moves(*block)]
        moves.sort(key=lambda move: move.estimate)
        for move in moves:
            if self._is_forbidden(move, index) and move.estimate >= best * (1 - CLOSE):
                continue
            row = self.rows[move.stage]
            stop = move.first + len(move.slots)
            before = row[move.first : stop]
            row[move.first : stop] = move.slots
            times = timetable(self._links, self.rows) if self._fits(move.stage) else None
            if times is not None:
                self.times = times
                pairs = [(move.moved, other) if move.is_later else (other, move.moved) for other in move.passed]
                self._forbidden.update(dict.fromkeys(pairs, index + TENURE))
                return True
            row[move.first : stop] = before
        return False

    def _is_forbidden(self, move: _Move, index: int) -> bool:
        pairs = ((other, move.moved) if move.is_later else (move.moved, other) for other in move.passed)
        return any(self._forbidden.get(pair, 0) > index for pair in pairs)

    def _fits(self, stage: int) -> bool:
        added = map(self._links.bytes_added.__getitem__, self.rows[stage])
        return max(accumulate(added)) <= self._problem.cap[stage] * (1 + 1e-12)

    def _blocks(self) -> Iterator[tuple[int, int, int]]:
        """Stage, first and last position of every run of actions without a pause on one critical path."""
        run: list[int] = []
        for slot in _critical_path(self._links, self.times):
            if run and self.times.next_slot[run[-1]] != slot:
                yield from self._block(run)
                run = []
            run.append(slot)
        yield from self._block(run)

    def _block(self, run: list[int]) -> Iterator[tuple[int, int, int]]:
        if len(run) > 1:
            virtual_stage = run[0] // self._problem.num_micro_batches % self._problem.depth
            stage = self._problem.stages[virtual_stage]
            first = self.rows[stage].index(run[0])
            yield stage, first, first + len(run) - 1

    def _moves(self, stage: int, first: int, last: int) -> Iterator[_Move]:
        row = self.rows[stage]
        targets = {(place, place + 1) for place in range(first, last)}
        targets |= {(place, last) for place in range(max(first, last - REACH), last)}
        targets |= {(place, first) for place in range(first + 1, min(first + REACH, last) + 1)}
        for source, target in sorted(targets):
            moved = row[source]
            is_later = source < target
            passed = row[source + 1 : target + 1] if is_later else row[target:source]
            if all(self._may_change_places(moved, other) for other in passed):
                slots = [*passed, moved] if is_later else [moved, *passed]
                low = min(source, target)
                yield _Move(self._estimate(row, low, slots), stage, low, slots, moved, passed, is_later)

    def _may_change_places(self, slot: int, other: int) -> bool:
        """No action passes one of its own micro-batch and virtual stage; micro-batches keep their order."""
        num, span = self._problem.num_micro_batches, self._problem.depth * self._problem.num_micro_batches
        return slot % span != other % span and (slot // num != other // num or slot >= WEIGHT * span)

    def _estimate(self, row: Sequence[int], first: int, slots: Sequence[int]) -> float:
        """The longest path through the slots if they are done in this order and all else stays."""
        links, times = self._links, self.times
        now = times.end[row[first - 1]] if first else 0.0
        starts = []
        for slot in slots:
            source = links.source[slot]
            if source != NOBODY:
                now = max(now, times.end[source] + links.source_travel[slot])
            starts.append(now)
            now += links.seconds[slot]
        following = first + len(slots)
        tail = times.tail[row[following]] if following < len(row) else 0.0
        longest = 0.0
        for slot, start in zip(reversed(slots), reversed(starts), strict=True):
            user = links.user[slot]
            if user != NOBODY:
                tail = max(tail, times.tail[user] + links.user_travel[slot])
            tail += links.seconds[slot]
            longest = max(longest, start + tail)
        return longest


def _critical_path(links: Links, times: Timetable) -> Iterator[int]:
    """The slots of one longest path, the own stage preferred where paths fork."""
    close = times.makespan * CLOSE
    slot = max((slot for slot, start in enumerate(times.start) if start <= close), key=times.tail.__getitem__)
    while slot != NOBODY:
        yield slot
        rest = times.tail[slot] - links.seconds[slot] - close
        user, slot = links.user[slot], times.next_slot[slot]
        if slot == NOBODY or times.tail[slot] < rest:
            slot = user if rest > 0.0 else NOBODY
