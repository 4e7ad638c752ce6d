"""What to say where nothing fits: what is missing, item by item, and the nearest thing that would fit, by looking."""

from collections.abc import Iterable
from dataclasses import dataclass, replace

from pipemlp.planning.candidate import Candidate
from pipemlp.planning.candidates import settings, small_settings
from pipemlp.planning.laying import Laying
from pipemlp.planning.machine import CostSource
from pipemlp.planning.workload import Setting, Workload

_MOST_TIMES = 32
"""As many ranks are tried."""
_MOST_WORK = 20_000
"""Of one look for what holds least, in units of a clocked action."""
_NUM_HALVINGS = 4


@dataclass(frozen=True)
class Remedies:
    """Where nothing fits.

    Args:
        nearest: what lacks least on as many ranks.
        more_ranks: what fits on the fewest more ranks; None if nothing does.
        most_ranks: that were tried.
    """

    nearest: Candidate
    more_ranks: Candidate | None
    most_ranks: int


def remedies(workload: Workload, num_ranks: int, source: CostSource, cap_bytes: float) -> Remedies:
    """What holds least, here and on more ranks."""
    nearest = _nearest(workload, num_ranks, source, cap_bytes)
    most = min(_MOST_TIMES * num_ranks, workload.num_trained_layers * workload.global_batch_rows)
    laying = Laying(workload, source, cap_bytes)
    for number in range(num_ranks + 1, most + 1):
        hopeful = [each for each in small_settings(workload, number) if laying.outlook(each).peak_bytes <= cap_bytes]
        more = _first_fitting(laying, hopeful)
        if more is not None:
            return Remedies(nearest, more, number)
    return Remedies(nearest, None, most)


def problem_text(found: Remedies) -> str:
    """`memory: no rank may hold more than 16 GiB, but ...`, with what is missing and what would do."""
    nearest, cap = found.nearest, found.nearest.cap_bytes
    stage = nearest.fullest_stage
    memory = nearest.plan.memory[stage]
    items = ", ".join(
        f"{name} {_size(size)}" + (f" ({_size(short)} too much)" if short else "")
        for name, (size, short) in memory.missing(int(cap)).items()
    )
    text = (
        f"memory: nothing fits into {_size(cap)} per rank. The nearest is {describe(nearest.setting)}: "
        f"stage {stage} needs {_size(nearest.peak_bytes)}, {_size(nearest.missing_bytes)} too much ({items})"
    )
    if found.more_ranks is not None:
        more = found.more_ranks
        text += (
            f". It would fit on {more.setting.num_ranks} ranks: {describe(more.setting)}, {_size(more.peak_bytes)} each"
        )
    elif found.most_ranks > nearest.setting.num_ranks:
        text += f". No number of ranks up to {found.most_ranks:,} was found on which it fits"
    ranks = "1 rank" if nearest.setting.num_ranks == 1 else f"{nearest.setting.num_ranks} ranks"
    return f"{text}. On {ranks}, {_size(nearest.peak_bytes)} each would do"


def describe(setting: Setting) -> str:
    """`4 stages x 2 replicas, 1f1b, 16 micro-batches, recompute elementwise, ZeRO 1`."""
    stages = "1 stage" if setting.num_stages == 1 else f"{setting.num_stages} stages"
    replicas = "1 replica" if setting.num_replicas == 1 else f"{setting.num_replicas} replicas"
    micro_batches = "1 micro-batch" if setting.num_micro_batches == 1 else f"{setting.num_micro_batches} micro-batches"
    parts = [f"{stages} x {replicas}", *([setting.schedule] if setting.num_stages > 1 else [])]
    if setting.num_virtual_stages > 1:
        parts.append(f"{setting.num_virtual_stages} virtual stages each")
    parts.append(micro_batches)
    if setting.recompute:
        every = f"every {setting.recompute} layers" if isinstance(setting.recompute, int) else setting.recompute
        parts.append(f"recompute {every}")
    if setting.zero_stage and setting.num_replicas > 1:
        parts.append(f"ZeRO {setting.zero_stage}")
    return ", ".join(parts)


def _nearest(workload: Workload, num_ranks: int, source: CostSource, cap_bytes: float) -> Candidate:
    """What holds least: under the cap that is asked for, and then under caps between that and the least there could be.

    A cap makes a difference: where the fastest cut does not keep it, another one is looked for that does.
    """
    laying = Laying(workload, source, cap_bytes)
    known = sorted(
        (laying.outlook(setting).peak_bytes, number, setting)
        for number, setting in enumerate(settings(workload, num_ranks))
    )
    best = min((laying.lay_out(setting) for setting in small_settings(workload, num_ranks)), key=_peak_bytes)
    begun = laying.work
    for bound, _, setting in known:
        if bound >= best.peak_bytes or laying.work > begun + _MOST_WORK:
            break
        best = min(best, laying.lay_out(setting), key=_peak_bytes)
    least = known[0][0]
    for _ in range(_NUM_HALVINGS):
        cap = (least + best.peak_bytes) / 2
        found = _first_fitting(Laying(workload, source, cap), [setting for bound, _, setting in known if bound <= cap])
        least, best = (cap, best) if found is None else (least, found)
    return replace(best, cap_bytes=cap_bytes)


def _first_fitting(laying: Laying, tried: Iterable[Setting]) -> Candidate | None:
    """The first that fits, as far as the work goes."""
    begun = laying.work
    laid_out = (laying.lay_out(setting) for setting in tried if laying.work <= begun + _MOST_WORK)
    return next((candidate for candidate in laid_out if candidate.fits), None)


def _peak_bytes(candidate: Candidate) -> int:
    return candidate.peak_bytes


def _size(num_bytes: float) -> str:
    for unit in ("bytes", "KiB", "MiB"):
        if num_bytes < 1000:
            return f"{num_bytes:.3g} {unit}"
        num_bytes /= 1024
    return f"{num_bytes:.3g} GiB"
