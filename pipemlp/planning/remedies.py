"""What to say where nothing fits: what is missing, item by item, and the nearest thing that would fit, by looking."""

from dataclasses import dataclass

from pipemlp.planning.candidate import Candidate
from pipemlp.planning.candidates import small_settings
from pipemlp.planning.laying import Laying
from pipemlp.planning.machine import CostSource
from pipemlp.planning.workload import Setting, Workload

_MOST_DOUBLINGS = 10


@dataclass(frozen=True)
class Remedies:
    """Where nothing fits.

    Args:
        nearest: what lacks least on as many ranks.
        more_ranks: what fits on the fewest more ranks that were tried, doubling them; None if nothing did.
    """

    nearest: Candidate
    more_ranks: Candidate | None


def remedies(workload: Workload, num_ranks: int, source: CostSource, cap_bytes: float) -> Remedies:
    """What holds least, here and on more ranks."""
    laying = Laying(workload, source, cap_bytes)
    nearest = _smallest(laying, num_ranks)
    assert nearest is not None  # the ranks have been checked
    for doubling in range(1, _MOST_DOUBLINGS + 1):
        more = _smallest(laying, num_ranks * 2**doubling, only_fitting=True)
        if more is not None:
            return Remedies(nearest, more)
    return Remedies(nearest, None)


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


def _smallest(laying: Laying, num_ranks: int, *, only_fitting: bool = False) -> Candidate | None:
    """The way that holds least, or the first that fits: 1F1B with small micro-batches.

    Args:
        laying: of the workload.
        num_ranks: all of them are used.
        only_fitting: whether to pass over what cannot fit.
    """
    best: Candidate | None = None
    for setting in small_settings(laying.workload, num_ranks):
        if only_fitting and laying.outlook(setting).peak_bytes > laying.cap_bytes:
            continue
        candidate = laying.lay_out(setting)
        if candidate.fits:
            return candidate
        if best is None or candidate.peak_bytes < best.peak_bytes:
            best = candidate
    return None if only_fitting else best


def _size(num_bytes: float) -> str:
    unit, name = (2**30, "GiB") if num_bytes >= 2**30 else (2**20, "MiB")
    return f"{num_bytes / unit:.3g} {name}" if num_bytes >= 2**20 else f"{num_bytes / 1024:.3g} KiB"
