"""Of all cuts within a limit, one run per stage, the one that sends least, and of those the one that holds least.

The bytes sent to reach a position are the least of the bytes to its possible predecessors. The largest peak is then
lowered by halving, as long as a cut with as few bytes keeps to it.
"""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from pipemlp.planning.cut_problem import ENDLESS, NOTHING, CutProblem, Ints
from pipemlp.planning.single_runs import bands, best_before

LARGE = 2**20
"""Layers times stages above which the peak is lowered to a thousandth only, for the sake of time."""


def cheapest_cut(problem: CutProblem, limit: int) -> tuple[int, ...]:
    """The boundaries; `limit` is one that will do."""
    cut = least_sent(problem, limit)
    assert cut is not None
    sent, low, high = problem.sent_bytes(cut), 0, max(problem.peaks(cut))
    grain = 0 if problem.num_layers * problem.num_stages <= LARGE else high >> 10
    while high - low > grain:
        middle = (low + high) // 2
        other = least_sent(replace(problem, caps=np.minimum(problem.caps, middle)), limit)
        if other is None or problem.sent_bytes(other) > sent:
            low = middle + 1
        else:
            cut, high = other, max(problem.peaks(other))
    return cut


def least_sent(problem: CutProblem, limit: int) -> tuple[int, ...] | None:
    """The boundaries that send least within the limit and the caps; None if there are none."""
    levels: list[tuple[slice, Ints]] = [(slice(0, 1), np.zeros(1, dtype=np.int64))]  # less what was sent so far
    for stage, there in enumerate(bands(problem, limit)):
        here, saved = levels[-1]
        there = _within_cap(problem, stage, here, there)
        best = best_before(problem, stage, saved, here, there, limit=limit)
        reached = np.flatnonzero(best != NOTHING)
        if not len(reached):
            return None
        kept = slice(int(reached[0]), int(reached[-1]) + 1)
        there, best = slice(there.start + kept.start, there.start + kept.stop), best[kept]
        levels.append((there, np.where(best == NOTHING, NOTHING, best - problem.crossing_bytes[there])))
    return _traced_back(problem, limit, levels)


def _within_cap(problem: CutProblem, stage: int, here: slice, there: slice) -> slice:
    """Less the far ends that no run from here reaches within the cap: there are many, and they take time."""
    if problem.caps[stage] >= ENDLESS:
        return there
    start, stop = problem.run_bytes(stage)
    least = np.minimum.accumulate(stop[there][::-1])[::-1]
    count = int(np.searchsorted(least, start[here].max() + problem.caps[stage], side="right"))
    return slice(there.start, there.start + max(count, 1))


def _traced_back(problem: CutProblem, limit: int, levels: Sequence[tuple[slice, Ints]]) -> tuple[int, ...]:
    """From the last position to a predecessor that sent as little; the farthest, to leave the first stages less."""
    last_starts = problem.last_starts
    boundaries = [problem.num_layers]
    for stage in reversed(range(problem.num_stages)):
        (here, saved), (there, sums) = levels[stage], levels[stage + 1]
        end = boundaries[-1]
        wanted = sums[end - there.start] + problem.crossing_bytes[end]
        start, stop = problem.run_bytes(stage)
        fits = (
            (saved == wanted)
            & (problem.start[here] >= problem.stop[end] - limit)
            & (start[here] >= stop[end] - problem.caps[stage])
            & (np.arange(here.start, here.stop) <= last_starts[end])
        )
        boundaries.append(here.start + int(np.argmax(fits)))
    return tuple(reversed(boundaries))
