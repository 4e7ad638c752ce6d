"""The cut whose slowest stage is as fast as can be, and how far it is proven to be so."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import isfinite

import numpy as np

from pipemlp.planning.cut_problem import ENDLESS, CutProblem, Ints, cut_problem
from pipemlp.planning.layer_costs import LayerCosts
from pipemlp.planning.several_runs import Effort, Search, TooManyError
from pipemlp.planning.single_runs import least_limit
from pipemlp.planning.single_runs_ties import LARGE, cheapest_cut, least_sent
from pipemlp.schedule.placement import Placement

# Everything, if that takes some seconds at most; the same for error messages; and a few states of any number,
# or fewer, where layers and stages are so many that everything is out of reach.
_WIDE = Effort(num_candidates=12_000_000)
_BRIEF = Effort(num_candidates=200_000)
_NARROW = Effort(num_candidates=2**62, num_states=100, reach=12)
_SPARSE = Effort(num_candidates=2**62, num_states=30, reach=6)


@dataclass(frozen=True)
class Cut:
    """Layers cut into virtual stages.

    Args:
        boundaries: layer indices, [num_stages x num_virtual_stages + 1].
        slowest_seconds: of the slowest stage for one micro-batch, transfers included.
        lower_bound_seconds: what the slowest stage of any cut takes at least, within the same caps.
    """

    boundaries: tuple[int, ...]
    slowest_seconds: float
    lower_bound_seconds: float

    @property
    def distance(self) -> float:
        """How much faster another cut might be, as a fraction of the lower bound; 0 if proven that none is."""
        if self.slowest_seconds <= self.lower_bound_seconds:
            return 0.0
        return self.slowest_seconds / self.lower_bound_seconds - 1 if self.lower_bound_seconds else float("inf")

    @property
    def is_optimal(self) -> bool:
        """Whether no cut is proven to be faster."""
        return self.distance == 0


def balanced(
    costs: LayerCosts,
    num_stages: int,
    num_virtual_stages: int = 1,
    placement: Placement = "loop",
    *,
    trainable: Sequence[bool],
    memory_caps: Sequence[float] | None = None,
    in_flight: Sequence[float] | None = None,
) -> Cut:
    """The contiguous cut with the fastest slowest stage; of equal ones the least sent, then the least peak memory.

    A stage takes the work of its layers and sends a tensor over each cut to another stage. It holds the state of its
    layers, and what its runs keep for every micro-batch in flight.

    One virtual stage per stage: optimal, ties too (of very many, the peak to a thousandth). Several: optimal, ties too,
    where the search can look at all that there is; else the best cut of a narrower search, and `distance` says how far
    from a lower bound it is. It may be 0 all the same, and only the ties unsettled. Seconds are told apart to 2^-48 of
    the whole model's, bytes to a whole byte (or 2^-48 of the whole model's, if more).

    Args:
        costs: of one micro-batch, layer by layer.
        num_stages, num_virtual_stages: stages, and virtual stages that each holds.
        placement: who holds which; `v` takes 1 or 2 virtual stages per stage.
        trainable: which layers have parameters, [n]; every virtual stage gets one at least.
        memory_caps: bytes that a stage may hold, [num_stages]; none if not given.
        in_flight: micro-batches whose kept bytes a stage holds, [num_stages]; 1 if not given.

    Raises:
        ValueError: for all that is wrong with the arguments, one line each; if no cut keeps the caps, what is missing.
    """
    problems = [
        *_wrong_counts(num_stages, num_virtual_stages, placement, trainable),
        *_wrong_costs(costs, trainable),
        *_wrong_numbers("memory_caps", memory_caps, num_stages, "stages", may_be_infinite=True),
        *_wrong_numbers("in_flight", in_flight, num_stages, "stages"),
    ]
    if problems:
        raise ValueError("\n".join(problems))
    problem = cut_problem(
        costs,
        num_stages,
        num_virtual_stages,
        placement,
        trainable=trainable,
        memory_caps=memory_caps,
        in_flight=in_flight,
    )
    found = _solved(problem)
    if found.boundaries is None:
        raise ValueError(_caps_message(problem, is_proven=found.bound > problem.most))
    return Cut(found.boundaries, max(problem.loads(found.boundaries)) * problem.unit, found.bound * problem.unit)


@dataclass(frozen=True)
class _Solution:
    """Boundaries, if found; units that the slowest stage takes at least, more than `most` if there are none."""

    boundaries: tuple[int, ...] | None
    bound: int


def _solved(problem: CutProblem) -> _Solution:
    if problem.num_virtual_stages == 1:
        limit = least_limit(problem)
        return _Solution(None, problem.most + 1) if limit is None else _Solution(cheapest_cut(problem, limit), limit)
    if problem.num_stages == 1:
        cut = _of_one_stage(problem)
        return _Solution(cut, problem.lower_bound() if cut else problem.most + 1)
    return _of_several_runs(problem)


def _of_one_stage(problem: CutProblem) -> tuple[int, ...] | None:
    """Time and transfers are the same for all cuts; the bytes that runs keep at their ends are not."""
    start, stop = problem.run_bytes(0)
    count = problem.num_virtual_stages
    runs = replace(
        problem,
        num_stages=count,
        num_virtual_stages=1,
        crossing_bytes=stop - start,
        in_flight=np.repeat(problem.in_flight, count),
        caps=np.full(count, ENDLESS),
    )
    cut = least_sent(runs, problem.most)
    return cut if cut and problem.peaks(cut)[0] <= problem.caps[0] else None


def _of_several_runs(problem: CutProblem) -> _Solution:
    """A good cut first, and then all that could be better, from the bound upwards until it is too much."""
    low, cut = problem.lower_bound(), _good_cut(problem)
    high = max(problem.loads(cut)) if cut else problem.most + 1
    limit, step = low, max(1, (high - low) // 64)
    try:
        if _is_large(problem):
            raise TooManyError
        while low < high:
            limit = min(limit, high - 1)
            best = Search(problem, limit, _WIDE).run()
            if best:
                cut = best
                low = high = max(problem.loads(best))
            else:
                low, limit, step = limit + 1, limit + step, 2 * step
        if cut:
            cut = Search(problem, high, _WIDE, least_sent=True).run()
    except TooManyError:
        other = Search(problem, high, _NARROW, least_sent=True).run()
        if cut and other:
            cut = min(cut, other, key=lambda cut: (problem.sent_bytes(cut), max(problem.peaks(cut))))
        cut = cut or other
    return _Solution(cut, low)


def _is_large(problem: CutProblem) -> bool:
    return problem.num_layers * problem.num_stages > LARGE


def _good_cut(problem: CutProblem) -> tuple[int, ...] | None:
    """By a narrow search, starting from runs that all take about the same; None if that found none."""
    cut = _equal_runs(problem)
    low, high = problem.lower_bound(), max(problem.loads(cut)) if cut else problem.most + 1
    effort, num_halvings = (_SPARSE, 6) if _is_large(problem) else (_NARROW, 10)
    for _ in range(num_halvings):
        if low >= high:
            break
        middle = (low + high) // 2
        found = Search(problem, middle, effort).run()
        if found:
            cut, high = found, max(problem.loads(found))
        else:
            low = middle + 1
    return cut


def _equal_runs(problem: CutProblem) -> tuple[int, ...] | None:
    """As if every run had a stage, and its share of the cap, of its own."""
    turns = problem.num_virtual_stages
    orders = [slice(None, None, -1 if problem.placement == "v" and turn % 2 else 1) for turn in range(turns)]
    shares = np.where(problem.caps >= ENDLESS, ENDLESS, problem.caps // turns)
    runs = replace(
        problem,
        num_stages=problem.num_stages * turns,
        num_virtual_stages=1,
        in_flight=np.concatenate([problem.in_flight[order] for order in orders]),
        caps=np.concatenate([shares[order] for order in orders]),
    )
    limit = least_limit(runs)
    return None if limit is None else least_sent(runs, limit)


def _wrong_counts(num_stages: int, num_virtual_stages: int, placement: str, trainable: Sequence[bool]) -> list[str]:
    if num_stages < 1 or num_virtual_stages < 1:
        return [f"{num_stages} stages x {num_virtual_stages} virtual stages: both must be at least 1"]
    if placement not in ("loop", "v"):
        return [f"placement {placement!r}; use 'loop' or 'v'"]
    if placement == "v" and num_virtual_stages > 2:
        return [f"placement 'v' with {num_virtual_stages} virtual stages per stage; use 2"]
    most, depth = sum(map(bool, trainable)), num_stages * num_virtual_stages
    if depth <= most:
        return []
    wanted = f"{num_stages} {'stage' if num_stages == 1 else 'stages'}"
    if num_virtual_stages > 1:
        wanted += f" x {num_virtual_stages} virtual stages = {depth}"
    have = f"{most} of the {len(trainable)} layers {'has' if most == 1 else 'have'} parameters"
    fitting = most // num_virtual_stages
    remedy = f"use at most {fitting} {'stage' if fitting == 1 else 'stages'}"
    if not fitting:
        remedy = f"use at most {most} virtual stages in all" if most else "there is nothing to train"
    return [f"{wanted}, but {have}; {remedy}"]


def _wrong_costs(costs: LayerCosts, trainable: Sequence[bool]) -> list[str]:
    count = costs.num_layers
    problems = [] if count else ["costs of 0 layers; there must be at least 1"]
    for name in ("forward", "input_gradient", "weight_gradient", "kept_bytes", "state_bytes"):
        problems += _wrong_numbers(name, getattr(costs, name), count, "layers")
    for name in ("crossing_seconds", "crossing_bytes"):
        problems += _wrong_numbers(name, getattr(costs, name), max(count - 1, 0), "cuts between two layers")
    for name in ("first_bytes", "last_bytes"):
        problems += _wrong_numbers(name, getattr(costs, name) or None, count, "layers")
    if len(trainable) != count:
        problems.append(f"trainable has {len(trainable)} entries for {count} layers; give one each")
    return problems


def _wrong_numbers(
    name: str, values: Sequence[float] | None, count: int, of_what: str, *, may_be_infinite: bool = False
) -> list[str]:
    if values is None:
        return []
    problems = []
    if len(values) != count:
        problems.append(f"{name} has {len(values)} entries for {count} {of_what}; give one each")
    wrong = [i for i, x in enumerate(values) if not (x >= 0 and (isfinite(x) or may_be_infinite))]
    if wrong:
        more = f", and {len(wrong) - 1} more" if len(wrong) > 1 else ""
        problems.append(f"{name}[{wrong[0]}] is {values[wrong[0]]}{more}; give a finite number of at least 0")
    return problems


def _caps_message(problem: CutProblem, *, is_proven: bool) -> str:
    no_cut = "no cut keeps" if is_proven else "no cut was found (a narrow search, no proof) that keeps"
    more, surely = _least_added(problem, problem.caps)
    equal, too = _least_added(problem, np.zeros_like(problem.caps))
    unit, smallest, largest = int(problem.byte_unit), int(problem.caps.min()), int(problem.caps.max())
    caps = f"{smallest * unit}" if smallest == largest else f"{smallest * unit} to {largest * unit}"
    if largest >= ENDLESS:
        caps = f"{smallest * unit}, none for some"
    least = "it takes" if is_proven and surely and too else "a cut was found with"
    return (
        f"memory_caps: {no_cut} the caps of {problem.num_stages} stages ({caps} bytes); {least} {more * unit} bytes "
        f"more on every stage that has one, or an equal cap of {equal * unit} bytes for all"
    )


def _least_added(problem: CutProblem, caps: Ints) -> tuple[int, bool]:
    """Units by which all caps have to grow until a cut keeps them, and whether no less will do."""
    cut, _ = _any_cut(replace(problem, caps=np.full_like(caps, ENDLESS)))
    assert cut is not None  # there are enough layers to train
    low, high = 0, max(peak - int(cap) for peak, cap in zip(problem.peaks(cut), caps, strict=True))
    grain = high >> 10 if _is_large(problem) else 0
    surely = grain == 0
    while high - low > grain:
        middle = (low + high) // 2
        cut, sure = _any_cut(replace(problem, caps=np.minimum(caps + middle, ENDLESS)))
        if cut:
            high = max(peak - int(cap) for peak, cap in zip(problem.peaks(cut), caps, strict=True))
        else:
            low, surely = middle + 1, surely and sure
    return high, surely


def _any_cut(problem: CutProblem) -> tuple[tuple[int, ...] | None, bool]:
    """Boundaries of a cut that keeps the caps, however slow; if there is none, whether that is proven."""
    if problem.num_virtual_stages == 1:
        return least_sent(problem, problem.most), True
    if problem.num_stages == 1:
        return _of_one_stage(problem), True
    try:
        return Search(problem, problem.most, _BRIEF, least_sent=True).run(), True
    except TooManyError:
        return _equal_runs(problem) or Search(problem, problem.most, _NARROW, least_sent=True).run(), False
