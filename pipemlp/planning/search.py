"""The fastest ways to run a workload on a number of ranks, found without laying out all of them.

    all settings ──► cannot fit ──► most promising first ──► lay out: cut, schedule, simulate ──► the fastest few
                     (outlook)      (outlook)                what may be faster than those so far

Then the best of every number of stages, of every schedule and so on, in the same way, and zb-auto for those of the
fastest that could gain by it. What would take too much work is left out, and `Found` says how much faster it could be.
Work is counted in actions, as nothing here knows the time.
"""

from bisect import insort
from collections import defaultdict
from collections.abc import Callable, Hashable, Iterable, Sequence
from dataclasses import dataclass, replace

from pipemlp.planning.candidate import Candidate
from pipemlp.planning.candidates import settings, small_settings
from pipemlp.planning.laying import Laying
from pipemlp.planning.machine import CostSource
from pipemlp.planning.optimistic import Outlook
from pipemlp.planning.workload import Setting, Workload
from pipemlp.schedule.bounds import lower_bound

Progress = Callable[[float, str], None]
"""Told the share that is done, and what is being done."""
Promising = Sequence[tuple[Outlook, Setting]]
"""Settings with their outlooks, most promising first."""

WORTH = 0.01
"""zb-auto is tried where a step could become shorter by more than this share, and takes part where it has: a usual
schedule is no worse than an order of one's own that gains less than predictions are off."""
_MOST_COMPARED = 2


@dataclass(frozen=True)
class Effort:
    """How much a search may do, in units of a clocked action (some ten microseconds).

    Args:
        work: in all.
        of_one: for one setting.
        first: the share of the work for the ranking itself.
        automatic: how many settings zb-auto is tried for.
        automatic_actions: of the largest of them.
    """

    work: int = 1_800_000
    of_one: int = 400_000
    first: float = 0.6
    automatic: int = 2
    automatic_actions: int = 6_000


USUAL_EFFORT = Effort()


@dataclass(frozen=True)
class Found:
    """What a search has found.

    Args:
        ranking: what fits, fastest first: all that was laid out.
        misses: what was laid out and does not fit, the nearest first.
        one_rank: the fastest way on a single rank; it need not fit.
        data_parallel: the fastest way without a pipeline on as many ranks, the nearest miss if none fits; None if the
            batch cannot be divided by the ranks.
        num_considered: settings.
        num_hopeless: of them, those that cannot fit whatever the cut.
        num_laid_out: of them, those with cut, schedule and simulation.
        slack: by which share of the fastest step any setting that was left out for its work could be shorter.
    """

    ranking: tuple[Candidate, ...]
    misses: tuple[Candidate, ...]
    one_rank: Candidate
    data_parallel: Candidate | None
    num_considered: int
    num_hopeless: int
    num_laid_out: int
    slack: float

    @property
    def num_slower(self) -> int:
        """Settings whose outlook was too slow to lay them out."""
        return self.num_considered - self.num_hopeless - self.num_laid_out


def search(
    workload: Workload,
    num_ranks: int,
    source: CostSource,
    *,
    memory_cap: float | None = None,
    num_wanted: int = 5,
    effort: Effort = USUAL_EFFORT,
    progress: Progress = lambda share, what: None,
) -> Found:
    """The fastest ways to run a workload.

    Args:
        workload: the model and its step.
        num_ranks: all of them are used.
        source: of the costs.
        memory_cap: bytes that no rank may exceed; else what the machine has.
        num_wanted: so many are the fastest of all; what else is in the ranking was met on the way.
        effort: its limits.
        progress: told what is done.

    Raises:
        ValueError: as `check_ranks`.
    """
    laying = Laying(workload, source, source.machine.memory_bytes if memory_cap is None else memory_cap)
    known = _promising(laying, settings(workload, num_ranks))
    hopeful = [pair for pair in known if pair[0].peak_bytes <= laying.cap_bytes]
    first = round(effort.first * effort.work)
    left = _lay_out_fastest(
        laying,
        hopeful,
        num_wanted,
        effort,
        first,
        lambda share: progress(effort.first * share, f"{len(laying.candidates)} of {len(known)} settings laid out"),
    )
    if not _ranking(laying):  # what holds least, before anybody says that nothing fits
        for setting in small_settings(workload, num_ranks):
            laying.lay_out(setting)
    ranking = _ranking(laying)
    for index, kind in enumerate(kinds := _by_kind(hopeful, ranking[0].setting if ranking else None)):
        progress(effort.first + (0.9 - effort.first) * index / len(kinds), "the best of every kind")
        _lay_out_fastest(laying, kind, 1, effort, (effort.work - laying.work) // (len(kinds) - index))
    progress(0.9, "zb-auto")
    _try_automatic(laying, effort)
    one_rank = _reference(laying, _promising(laying, settings(workload, 1)), effort, fastest=True)
    alone = [pair for pair in known if pair[1].num_stages == 1]
    data_parallel = _reference(laying, alone, effort, fastest=False) if alone else None
    progress(1.0, "done")
    return _found(laying, num_ranks, known, left, one_rank, data_parallel)


def _found(
    laying: Laying,
    num_ranks: int,
    known: Promising,
    left: Promising,
    one_rank: Candidate,
    data_parallel: Candidate | None,
) -> Found:
    """What has been laid out, put in order."""
    ranking = _ranking(laying, num_ranks)
    laid_out = [each for each in laying.candidates.values() if each.setting.num_ranks == num_ranks]
    misses = sorted((each for each in laid_out if not each.fits), key=lambda each: each.peak_bytes)
    unknown = [pair for pair in known if pair[1] not in laying.candidates]
    return Found(
        ranking=tuple(ranking),
        misses=tuple(misses),
        one_rank=one_rank,
        data_parallel=data_parallel,
        num_considered=len(unknown) + len(laid_out),
        num_hopeless=sum(1 for outlook, _ in unknown if outlook.peak_bytes > laying.cap_bytes),
        num_laid_out=len(laid_out),
        slack=_slack(ranking, [pair for pair in left if pair in unknown]),
    )


def _slack(ranking: Sequence[Candidate], left: Promising) -> float:
    """By which share the first could be beaten by something that was left out."""
    return max([0.0, *(1 - outlook.step_seconds / ranking[0].step_seconds for outlook, _ in left if ranking)])


def _promising(laying: Laying, found: Iterable[Setting]) -> Promising:
    pairs = [(laying.outlook(setting), setting) for setting in found]
    return sorted(pairs, key=lambda pair: (pair[0].likely_seconds, pair[0].peak_bytes))


def _ranking(laying: Laying, num_ranks: int = 0) -> list[Candidate]:
    fitting = [each for each in laying.candidates.values() if each.fits and num_ranks in (0, each.setting.num_ranks)]
    return sorted(fitting, key=lambda each: (each.step_seconds, each.peak_bytes))


def _lay_out_fastest(
    laying: Laying,
    promising: Promising,
    num_wanted: int,
    effort: Effort,
    work: int,
    progress: Callable[[float], None] = lambda share: None,
) -> list[tuple[Outlook, Setting]]:
    """Lay out what can be among the fastest so many; returns what was left out for its work."""
    fastest: list[float] = []
    left, begun = [], laying.work
    for index, (outlook, setting) in enumerate(promising):
        if len(fastest) >= num_wanted and outlook.step_seconds >= fastest[num_wanted - 1]:
            continue
        if setting not in laying.candidates:
            needed = laying.work_of(setting)
            if needed > effort.of_one or laying.work + needed > begun + work:
                left.append((outlook, setting))
                continue
        candidate = laying.lay_out(setting)
        if candidate.fits:
            insort(fastest, candidate.step_seconds)
        progress(min(1.0, max(index / len(promising), (laying.work - begun) / work)))
    return left


def _by_kind(promising: Promising, winner: Setting | None) -> list[Promising]:
    """The settings with so many stages, with such a schedule and so on, as many micro-batches beside winner's stages.

    With more than two virtual stages per stage, cuts take too much work for what is only there to be compared with.
    """
    kinds: dict[Hashable, list[tuple[Outlook, Setting]]] = defaultdict(list)
    for pair in promising:
        if pair[1].num_virtual_stages > _MOST_COMPARED:
            continue
        for kind in kinds_of(pair[1]):
            if kind[0] != "micro_batches" or (winner and pair[1].num_stages == winner.num_stages):
                kinds[kind].append(pair)
    return list(kinds.values())


def kinds_of(setting: Setting) -> tuple[tuple[str, object], ...]:
    """The kinds of which the best are looked for: (dimension, value)."""
    recompute = setting.recompute
    return (
        ("stages", setting.num_stages),
        ("schedule", setting.schedule),
        ("micro_batches", setting.num_micro_batches),
        ("recompute", "none" if recompute == 0 else recompute if recompute == "elementwise" else "layers"),
        ("zero_stage", setting.zero_stage),
    )


def _try_automatic(laying: Laying, effort: Effort) -> None:
    """zb-auto with the sizes of the fastest settings that a better order could make faster than all."""
    tried: list[Setting] = []
    usual = _ranking(laying)
    for candidate in usual:
        setting = replace(candidate.setting, schedule="zb-auto")
        if len(tried) == effort.automatic:
            return
        if setting.num_virtual_stages > 2 or setting.num_stages == 1 or setting in tried:
            continue
        if laying.num_actions(setting) <= effort.automatic_actions and _could_gain(laying, candidate) > WORTH:
            tried.append(setting)
            if laying.lay_out(setting).step_seconds > (1.0 - WORTH) * usual[0].step_seconds:
                del laying.candidates[setting]


def _could_gain(laying: Laying, candidate: Candidate) -> float:
    """By which share of its step a better order of the same actions could make it shorter."""
    setting, costs = candidate.setting, candidate.plan.costs
    assert costs is not None  # it was laid out with a source of costs
    if not laying.workload.stages_meet(setting.zero_stage):
        return 1.0 - max(candidate.stage_seconds) / candidate.prediction.pipeline_seconds
    bound = lower_bound(
        setting.num_stages,
        setting.num_micro_batches,
        setting.num_virtual_stages,
        costs,
        candidate.plan.schedule.placement,
    )
    return (candidate.prediction.pipeline_seconds - bound) / candidate.step_seconds


def _reference(laying: Laying, promising: Promising, effort: Effort, *, fastest: bool) -> Candidate:
    """The fastest of these, with a single stage, that fits; if none does, the fastest at all, or the smallest."""
    hopeful = [pair for pair in promising if pair[0].peak_bytes <= laying.cap_bytes]
    _lay_out_fastest(laying, hopeful, 1, effort, effort.work)
    known = {setting for _, setting in promising}
    fitting = [each for each in _ranking(laying) if each.setting in known]
    if fitting:
        return fitting[0]
    candidates = [laying.lay_out(setting) for _, setting in promising]
    return min(candidates, key=lambda each: each.step_seconds if fastest else each.peak_bytes)
