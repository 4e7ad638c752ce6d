"""The best cut for one run per stage, by deciding how much a stage may take until no less will do.

A limit is tried stage by stage. `best[b]` is the largest `start[a]` of the positions a that the stages so far can reach
and from which the next one may go on to b; b is reached if `stop[b] - best[b]` is within the limit:

    position        0   1   2   3   4   5        one unit per layer, no crossings, limit 2
    0 stages        x
    1 stage             x   x
    2 stages                x   x   x
    3 stages                    x   x   x        5 layers, 3 stages: the limit will do

No position is left out, so that a limit is refused only if no cut keeps it. Each trial also says the least cost that it
turned down: nothing below is worth trying, and the search ends with a limit that will do and none below that does.
"""

from dataclasses import dataclass

import numpy as np

from pipemlp.planning.cut_problem import ENDLESS, NOTHING, CutProblem, Ints


@dataclass(frozen=True)
class _Trial:
    """What came of a limit: whether it will do, the largest cost within it, the least cost above it."""

    will_do: bool
    largest: int
    least: int


def least_limit(problem: CutProblem) -> int | None:
    """The least units within which every stage can stay while it keeps its cap; None if no cut keeps the caps."""
    heaviest = int(np.diff(problem.before).max())
    low = problem.lower_bound()
    enough = low + heaviest + 2 * int((problem.stop - problem.before).max())  # unless caps or layers are short
    high = min(enough, problem.most)
    while not (trial := _try(problem, high, high)).will_do:
        if high == problem.most:
            return None
        low, high = high + 1, min(4 * high, problem.most)
    high = trial.largest
    while low < high:
        middle = (low + high) // 2
        trial = _try(problem, middle, high)
        low, high = (low, trial.largest) if trial.will_do else (trial.least, high)
    return high


def _try(problem: CutProblem, limit: int, high: int) -> _Trial:
    """Whether a limit will do; `high` is one that does, or the limit itself."""
    largest, least = 0, problem.most + 1
    here, values = slice(0, 1), problem.start[:1]
    for stage, there in enumerate(bands(problem, high)):
        best = best_before(problem, stage, values, here, there)
        cost = np.where(best == NOTHING, problem.most + 1, problem.stop[there] - best)
        within = cost <= limit
        if not within.all():
            least = min(least, int(cost[~within].min()))
        if not within.any():
            return _Trial(False, largest, least)
        largest = max(largest, int(cost[within].max()))
        here, values = there, np.where(within, problem.start[there], NOTHING)
    return _Trial(True, largest, least)


def bands(problem: CutProblem, limit: int) -> list[slice]:
    """Where each stage may end, if none takes more than the limit: not too far, and near enough for the others."""
    count, total = problem.num_stages, int(problem.before[-1])
    stages = range(1, count)
    trained = problem.trained_before
    first = np.maximum(
        np.searchsorted(problem.before, [total - min((count - stage) * limit, total) for stage in stages]),
        np.searchsorted(trained, stages),
    )
    last = np.minimum(
        np.searchsorted(problem.before, [min(stage * limit, total) for stage in stages], side="right"),
        np.searchsorted(trained, [trained[-1] - (count - stage) for stage in stages], side="right"),
    )
    bands = [slice(int(start), max(int(stop), int(start) + 1)) for start, stop in zip(first, last, strict=True)]
    return [*bands, slice(problem.num_layers, problem.num_layers + 1)]


def best_before(
    problem: CutProblem, stage: int, values: Ints, here: slice, there: slice, *, limit: int = ENDLESS
) -> Ints:
    """For every end in `there`, the largest value of the starts in `here` from which the stage's run may come.

    A run keeps the stage's cap, and the limit. Both get easier the later it starts, all but the crossing there, or what
    it keeps besides: behind a window of starts that all will do, there are a few to be decided one by one.

    Args:
        problem: with the caps.
        stage: that holds the run.
        values: of the starts; NOTHING for one that cannot be reached.
        here, there: positions where the run may start, and end.
        limit: units that the stage may take.
    """
    last = np.minimum(problem.last_starts[there], here.stop - 1) - here.start
    costs = []
    if limit < ENDLESS:
        costs.append((problem.start[here], problem.stop[there] - limit))
    if problem.caps[stage] < ENDLESS:
        bytes_start, bytes_stop = problem.run_bytes(stage)
        costs.append((bytes_start[here], bytes_stop[there] - problem.caps[stage]))
    some, all_ = np.zeros_like(last), np.zeros_like(last)
    for start, needed in costs:
        certain = np.searchsorted(np.minimum.accumulate(start[::-1])[::-1], needed)
        rises = (start[1:] >= start[:-1]).all()
        possible = certain if rises else np.searchsorted(np.maximum.accumulate(start), needed)
        some, all_ = np.maximum(some, possible), np.maximum(all_, certain)
    best = window_max(values, all_, last)
    ends, starts = spread(some, np.minimum(all_ - 1, last))
    for start, needed in costs:
        fits = start[starts] >= needed[ends]
        ends, starts = ends[fits], starts[fits]
    np.maximum.at(best, ends, values[starts])
    return best


def spread(low: Ints, high: Ints) -> tuple[Ints, Ints]:
    """All numbers from low to high, both included, of every entry: the entry, and the number."""
    count = np.maximum(high - low + 1, 0)
    way = np.repeat(np.arange(len(count)), count)
    return way, np.arange(len(way)) + np.repeat(low - np.cumsum(count) + count, count)


def window_max(values: Ints, first: Ints, last: Ints) -> Ints:
    """The largest of values[first..last], both included, for every pair; NOTHING for an empty window.

    Two overlapping windows of a power of two make up any window; those of all positions are made by doubling.
    """
    width = last - first + 1
    level = np.frexp(np.maximum(width, 1).astype(np.float64))[1] - 1
    table = np.full((int(level.max(initial=0)) + 1, len(values)), NOTHING)
    table[0] = values
    for index in range(1, len(table)):
        half = 1 << (index - 1)
        np.maximum(table[index - 1, :-half], table[index - 1, half:], out=table[index, :-half])
    empty = width <= 0
    first, last = np.where(empty, 0, first), np.where(empty, 0, last)
    result = np.maximum(table[level, first], table[level, last - (1 << level) + 1])
    return np.where(empty, NOTHING, result)
