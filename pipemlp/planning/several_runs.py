"""Cuts for several runs per stage: from stage to stage every turn moves on by one run, all turns at once.

    loop, two turns   0 ──► ──► ──► m ──► ──► ──► n        v, two turns   0 ──► ──► ──► ◄── ◄── ◄── n
                      stage 0   1   2     0   1   2                       stage 0   1   2   2   1   0

After some stages, a state is how far each turn has got. The next stage takes a run from each, within the limit; what
remains has to be within the limits of the remaining stages. Of equal states the better one goes on, so that going
through all of them finds the best cut there is. Where they are too many, a few go on, those that leave least: a good
cut, and no proof.
"""

from collections.abc import Sequence
from dataclasses import dataclass, fields
from itertools import combinations
from math import comb, prod

import numpy as np

from pipemlp.planning.cut_problem import CutProblem, Ints
from pipemlp.planning.single_runs import spread, window_max

_TABLE = 2**22
"""States that are told apart by a table of all that there could be; beyond, by sorting those that there are."""


@dataclass(frozen=True)
class Effort:
    """How far to look.

    Args:
        num_candidates: places for the end of a run, over all stages and states; beyond, the search gives up.
        num_states: that go on from a stage; None for all.
        reach: places to either side of a turn's even share; None for all.
    """

    num_candidates: int
    num_states: int | None = None
    reach: int | None = None


class TooManyError(Exception):
    """A search would have to look farther than its effort."""


@dataclass(frozen=True)
class _States:
    """How far the turns have got after some stages, and at what cost.

    Args:
        at: positions by turn, [num_turns]; from the end where a turn comes back.
        goals: which of the possible ends of the turns they go for.
        left: units of the layers that remain.
        slowest, sent, peak: of the stages so far.
        parents: the states before.
    """

    at: tuple[Ints, ...]
    goals: Ints
    left: Ints
    slowest: Ints
    sent: Ints
    peak: Ints
    parents: Ints

    def __len__(self) -> int:
        return len(self.left)

    def taken(self, chosen: Ints) -> "_States":
        """Some of them."""
        others = (getattr(self, field.name)[chosen] for field in fields(self) if field.name != "at")
        return _States(tuple(places[chosen] for places in self.at), *others)


class Search:
    """One search for the best cut within a limit.

    Args:
        problem: with two virtual stages or more per stage, and two stages or more.
        limit: units that no stage may exceed.
        effort: how far to look.
        least_sent: whether the best cut is the one that sends, then holds, least; otherwise the fastest one.
    """

    def __init__(self, problem: CutProblem, limit: int, effort: Effort, *, least_sent: bool = False) -> None:
        self._problem, self._limit, self._effort, self._least_sent = problem, limit, effort, least_sent
        self._budget = effort.num_candidates
        there, back = _Track(problem), _Track(problem.mirrored())
        self._is_v = problem.placement == "v"
        self._tracks = [back if self._is_v and turn % 2 else there for turn in range(problem.num_virtual_stages)]
        self._ends = _possible_ends(problem, effort)

    def run(self) -> tuple[int, ...] | None:
        """The boundaries; None if there are none, or none among the few states that went on.

        Raises:
            TooManyError: if all states were to go on and are too many.
        """
        count = len(self._ends)
        zeros, total = np.zeros(count, dtype=np.int64), np.full(count, self._problem.before[-1])
        begun = tuple(self._begun(turn) for turn in range(len(self._tracks)))
        levels = [_States(begun, np.arange(count), total, zeros, zeros, zeros, zeros)]
        for stage in range(self._problem.num_stages - 1):
            if not len(levels[-1]):
                return None
            levels.append(self._best(self._moved_on(levels[-1], stage)))
        last = self._finished(levels[-1])
        return self._traced_back(levels, last) if len(last) else None

    def _begun(self, turn: int) -> Ints:
        return np.zeros(len(self._ends), dtype=np.int64) if self._is_v or turn == 0 else self._ends[:, turn - 1]

    def _moved_on(self, states: _States, stage: int) -> _States:
        """What the next stage may leave, the same state several times if there are several ways to it."""
        problem, later = self._problem, self._reserves(states)
        parents, left = np.arange(len(states)), states.left
        spent = held = np.zeros_like(left)
        at: list[Ints] = []
        for turn, track in enumerate(self._tracks):
            here, (size_start, size_stop) = states.at[turn][parents], track.problem.run_bytes(stage)
            room = self._limit - spent - later[turn][parents]
            low, high = self._places(turn, stage, here, self._end(turn, states, parents, at), room, left)
            least_size = np.minimum.accumulate(size_stop[::-1])[::-1]
            with_room = np.searchsorted(least_size, size_start[here] + (problem.caps[stage] - held), side="right") - 1
            way, there = self._spread(low, np.minimum(high, with_room))
            here, parents = here[way], parents[way]
            spent = spent[way] + track.problem.stop[there] - track.problem.start[here]
            held = held[way] + size_stop[there] - size_start[here]
            left = left[way] - track.problem.before[there] + track.problem.before[here]
            fits = np.flatnonzero((spent + later[turn][parents] <= self._limit) & (held <= problem.caps[stage]))
            parents, spent, held, left = parents[fits], spent[fits], held[fits], left[fits]
            at = [*(places[way][fits] for places in at), there[fits]]
        sent = states.sent[parents]
        for track, places in zip(self._tracks, at, strict=True):
            sent = sent + track.problem.crossing_bytes[places]
        slowest, peak = np.maximum(states.slowest[parents], spent), np.maximum(states.peak[parents], held)
        return _States(tuple(at), states.goals[parents], left, slowest, sent, peak, parents)

    def _reserves(self, states: _States) -> list[Ints]:
        """Units that the turns behind each turn take at least."""
        reserves = [np.zeros(len(states), dtype=np.int64)]
        for track, here in zip(self._tracks[:0:-1], states.at[:0:-1], strict=True):
            reserves.insert(0, reserves[0] + track.least[here])
        return reserves

    def _end(self, turn: int, states: _States, parents: Ints, at: Sequence[Ints]) -> Ints:
        """Where the layers end that a turn has before it: the place where it meets another."""
        end: Ints = self._ends[states.goals[parents], turn]  # also the end of all, from which a `v` comes back
        if self._is_v:
            end = end - (at[0] if turn else states.at[1][parents])
        return end

    def _places(self, turn: int, stage: int, here: Ints, end: Ints, room: Ints, left: Ints) -> tuple[Ints, Ints]:
        """The first and the last place where a turn's run may end, but for the memory it takes."""
        track, after = self._tracks[turn], self._problem.num_stages - 1 - stage
        before, trained = track.problem.before, track.problem.trained_before
        runs = 2 * after + 2 - turn if self._is_v else after + 1  # to come before the end, this one included
        low = track.first_stops[here]
        high = np.minimum(
            np.searchsorted(before, track.problem.start[here] + room, side="right"),
            np.searchsorted(trained, trained[end] - runs + 1, side="right"),
        )
        high -= 1
        is_last = turn == len(self._tracks) - 1
        if is_last:  # the remaining stages have to manage the rest
            most = after * self._limit - self._problem.least_crossing * (2 * len(self._tracks) * after - 2)
            low = np.maximum(low, np.searchsorted(before, before[here] + left - most))
        reach = self._effort.reach
        if reach is not None and is_last:
            low = np.maximum(low, high - reach)
        elif reach is not None:
            reach = reach if turn >= len(self._tracks) - 3 else 0
            even = np.searchsorted(before, before[here] + (before[end] - before[here]) // runs)
            low, high = np.maximum(low, np.minimum(even - reach, high)), np.minimum(high, np.maximum(even + reach, low))
        return low, high

    def _spread(self, low: Ints, high: Ints) -> tuple[Ints, Ints]:
        """All numbers from low to high of every entry: the entry, and the number."""
        count = np.maximum(high - low + 1, 0)
        self._budget -= int(count.sum())
        if self._budget < 0:
            raise TooManyError
        return spread(low, high)

    def _best(self, states: _States) -> _States:
        """Of equal states the better one; of all, if they are limited, those that leave least."""
        code = _numbered(
            (states.goals, *states.at), (len(self._ends), *[self._problem.num_layers + 1] * len(states.at))
        )
        chosen = np.arange(len(code))
        for key in self._keys(states):
            least = np.full(int(code.max(initial=0)) + 1, key.max(initial=0))
            np.minimum.at(least, code[chosen], key[chosen])
            chosen = chosen[key[chosen] == least[code[chosen]]]
        one_each = np.full(int(code.max(initial=0)) + 1, -1)
        one_each[code[chosen]] = chosen
        chosen = one_each[one_each >= 0]
        limit = self._effort.num_states
        if limit is not None and len(chosen) > limit:
            chosen = chosen[np.argpartition(states.left[chosen], limit)[:limit]]
        return states.taken(chosen)

    def _keys(self, states: _States) -> tuple[Ints, ...]:
        return (states.sent, states.peak) if self._least_sent else (states.slowest,)

    def _finished(self, states: _States) -> _States:
        """The last stage takes what remains; its runs meet in a `v`, and nothing is sent between them."""
        problem, ends = self._problem, self._ends[states.goals]
        start, stop = problem.run_bytes(problem.num_stages - 1)
        runs = [(here, ends[:, turn]) for turn, here in enumerate(states.at)]
        spent = held = np.zeros_like(states.left)
        if self._is_v:
            runs = [(states.at[0], problem.num_layers - states.at[1])]
            first, last = problem.first_stops[runs[0][0]], problem.last_starts[runs[0][1]]
            held = -window_max(start - stop, first, last)  # where they meet, one ends and one begins
        fits = np.ones(len(states), dtype=bool)
        for begin, end in runs:
            spent = spent + problem.stop[end] - problem.start[begin]
            held = held + stop[end] - start[begin]
            fits &= problem.trained_before[end] - problem.trained_before[begin] > self._is_v
        fits &= (spent <= self._limit) & (held <= problem.caps[-1])
        return _States(
            at=states.at,
            goals=states.goals,
            left=states.left,
            slowest=np.maximum(states.slowest, spent),
            sent=states.sent + problem.crossing_bytes[ends].sum(axis=1),
            peak=np.maximum(states.peak, held),
            parents=np.arange(len(states)),
        ).taken(np.flatnonzero(fits))

    def _traced_back(self, levels: Sequence[_States], last: _States) -> tuple[int, ...]:
        best = int(np.lexsort(self._keys(last)[::-1])[0])
        ends, index = self._ends[last.goals[best]], int(last.parents[best])
        places: list[list[int]] = [[] for _ in self._tracks]  # by turn, from the last stage to the first
        for level in reversed(levels):
            for own, at in zip(places, level.at, strict=True):
                own.append(int(at[index]))
            index = int(level.parents[index])
        if not self._is_v:
            return (*(place for own in places for place in reversed(own)), int(ends[-1]))
        back = [self._problem.num_layers - place for place in places[1]]
        return (*reversed(places[0]), self._meeting(places[0][0], back[0]), *back)

    def _meeting(self, start: int, stop: int) -> int:
        """Where the last two runs of a `v` part: where they hold least, and there the nearest to half of the work."""
        problem = self._problem
        bytes_start, bytes_stop = problem.run_bytes(problem.num_stages - 1)
        places = np.arange(problem.first_stops[start], problem.last_starts[stop] + 1)
        uneven = np.abs(2 * problem.before[places] - problem.before[start] - problem.before[stop])
        return int(places[np.lexsort((uneven, (bytes_stop - bytes_start)[places]))[0]])


class _Track:
    """The layers in the order in which a turn goes through them.

    Args:
        problem: the layers in this order.

    `first_stops` is where a run from each position ends at the earliest, `least` the units that it takes at least.
    """

    def __init__(self, problem: CutProblem) -> None:
        self.problem = problem
        self.first_stops = problem.first_stops
        least_stop = np.minimum.accumulate(problem.stop[::-1])[::-1]
        self.least = least_stop[np.minimum(self.first_stops, problem.num_layers)] - problem.start


def _possible_ends(problem: CutProblem, effort: Effort) -> Ints:
    """Where the turns may end, one row for each possibility; in a `v` they meet where they will."""
    num_layers, count = problem.num_layers, problem.num_virtual_stages
    if problem.placement == "v":
        return np.full((1, count), num_layers)
    if effort.reach is None:
        if comb(num_layers - 1, count - 1) > effort.num_candidates // 16:  # each begins a state of its own
            raise TooManyError
        inner = np.array(list(combinations(range(1, num_layers), count - 1)))
    else:
        even = np.searchsorted(problem.before, [problem.before[-1] * turn // count for turn in range(1, count)])
        inner = even + np.arange(-2, 3)[:, None]
    inside = ((inner > 0) & (inner < num_layers)).all(axis=1)
    ends = np.concatenate((inner[inside], np.full((int(inside.sum()), 1), num_layers)), axis=1)
    trained = problem.trained_before[ends]
    enough: Ints = ends[(np.diff(trained, axis=1, prepend=0) >= problem.num_stages).all(axis=1)]
    return enough


def _numbered(columns: Sequence[Ints], sizes: Sequence[int]) -> Ints:
    """A number for every row, the same for equal rows only, and not much larger than there are rows."""
    if prod(sizes) < 2**62:
        code = columns[0]
        for column, size in zip(columns[1:], sizes[1:], strict=True):
            code = code * size + column
    else:
        code = np.unique(np.stack(columns), axis=1, return_inverse=True)[1].ravel()
    return code if prod(sizes) <= _TABLE else np.searchsorted(np.unique(code), code)
