"""All ways to run a workload on a number of ranks that a search looks at.

    ranks ──► stages x replicas ──► schedule, virtual stages ──► micro-batches ──► recompute ──► ZeRO

Micro-batches rise geometrically, a little finer from as many as there are stages to eight times as many; of every other
dimension all values are there.
"""

from collections.abc import Iterator
from math import ceil, isqrt, sqrt

from pipemlp.planning.recompute import Recompute
from pipemlp.planning.workload import Setting, Workload
from pipemlp.schedule.methods import METHODS

MOST_INTERLEAVED = (2, 4)
"""Virtual stages per stage of the schedules that take any number; with 1 they are other schedules."""
PER_STAGE = (1.0, 1.5, 2.0, 3.0, 4.0, 6.0, 8.0)
"""Micro-batches, in stages."""
MOST_OF_ONE_STAGE = 64
"""Micro-batches of a single stage: they save memory only, each halving the rows."""
_QUICK = 20_000


def grids(workload: Workload, num_ranks: int) -> list[tuple[int, int]]:
    """(stages, replicas) that use all ranks: no more stages than layers to train, replicas that divide the batch."""
    rows = workload.global_batch_rows
    return [
        (num_stages, num_ranks // num_stages)
        for num_stages in range(1, min(num_ranks, workload.num_trained_layers) + 1)
        if num_ranks % num_stages == 0 and rows % (num_ranks // num_stages) == 0
    ]


def check_ranks(workload: Workload, num_ranks: int) -> None:
    """Refuse a number of ranks for which there is no grid.

    Raises:
        ValueError: with the arithmetic and the nearest numbers of ranks that work.
    """
    if num_ranks < 1:
        raise ValueError(f"{num_ranks} ranks; at least 1 is needed")
    if grids(workload, num_ranks):
        return
    layers, rows = workload.num_trained_layers, workload.global_batch_rows
    tried = []
    for num_stages in _divisors(num_ranks):
        num_replicas = num_ranks // num_stages
        why = f"{rows} rows % {num_replicas} = {rows % num_replicas}"
        if num_stages > layers:
            why = f"more stages than the {layers} layers with parameters"
        tried.append(f"{num_stages} x {num_replicas} ({why})")
    shown = tried if len(tried) <= 6 else [*tried[:3], "...", *tried[-3:]]
    raise ValueError(
        f"{num_ranks} ranks are stages x replicas with at most {layers} stages and replicas that divide the global "
        f"batch of {rows}, but no such pair is there: {', '.join(shown)}; nearest that work: "
        + " or ".join(map(str, _nearest(workload, num_ranks)))
    )


def _nearest(workload: Workload, num_ranks: int) -> list[int]:
    most = workload.num_trained_layers * workload.global_batch_rows  # each row a replica, each layer a stage
    below = next((number for number in range(min(num_ranks - 1, most), 0, -1) if grids(workload, number)), None)
    above = next((number for number in range(num_ranks + 1, most + 1) if grids(workload, number)), None)
    return [number for number in (below, above) if number is not None]


def settings(workload: Workload, num_ranks: int) -> Iterator[Setting]:
    """Every candidate, the simple ones first; zb-auto is none of them: the search tries it where it may pay.

    Raises:
        ValueError: as `check_ranks`.
    """
    check_ranks(workload, num_ranks)
    for num_stages, num_replicas in grids(workload, num_ranks):
        replica_rows = workload.global_batch_rows // num_replicas
        zero_stages = zero_stages_of(workload, num_replicas)
        for schedule, num_virtual_stages in orders(workload, num_stages):
            recomputes = recomputes_of(workload, num_stages * num_virtual_stages)
            for num_micro_batches in micro_batches_of(num_stages, replica_rows):
                for recompute in recomputes:
                    for zero_stage in zero_stages:
                        yield Setting(
                            num_stages=num_stages,
                            num_virtual_stages=num_virtual_stages,
                            num_replicas=num_replicas,
                            num_micro_batches=num_micro_batches,
                            schedule=schedule,
                            zero_stage=zero_stage,
                            recompute=recompute,
                        )


def small_settings(workload: Workload, num_ranks: int) -> Iterator[Setting]:
    """Those that hold least, one of every grid and recomputation: 1F1B with micro-batches as small as is quick."""
    for num_stages, num_replicas in grids(workload, num_ranks):
        numbers = micro_batches_of(num_stages, workload.global_batch_rows // num_replicas)
        quick = [number for number in numbers if number * num_stages <= _QUICK]
        for recompute in recomputes_of(workload, num_stages):
            yield Setting(
                num_stages=num_stages,
                num_replicas=num_replicas,
                num_micro_batches=(quick or numbers[:1])[-1],
                zero_stage=zero_stages_of(workload, num_replicas)[-1],
                recompute=recompute,
            )


def orders(workload: Workload, num_stages: int) -> list[tuple[str, int]]:
    """(schedule, virtual stages per stage) for a number of stages; with a single one, all of them are 1F1B."""
    if num_stages == 1:
        return [("1f1b", 1)]
    result = []
    for method in METHODS.values():
        if method.make is not None:
            result += [(method.name, number) for number in method.virtual_stages or MOST_INTERLEAVED]
    return [(name, number) for name, number in result if num_stages * number <= workload.num_trained_layers]


def micro_batches_of(num_stages: int, replica_rows: int) -> list[int]:
    """Divisors of a replica's rows near the wanted numbers."""
    most = 8 * num_stages if num_stages > 1 else MOST_OF_ONE_STAGE
    wanted = [2.0**power for power in range(most.bit_length()) if 2**power <= most]
    if num_stages > 1:
        wanted += [times * num_stages for times in PER_STAGE]
    divisors = _divisors(replica_rows)
    near = {min(divisors, key=lambda divisor: (abs(divisor - number), divisor)) for number in wanted}
    return sorted(near)


def recomputes_of(workload: Workload, depth: int) -> list[Recompute]:
    """Nothing, all but products, and all of every so many layers as keep least: the root of a virtual stage's layers.

    Source: Chen, Xu, Zhang, Guestrin, Training Deep Nets with Sublinear Memory Cost, arXiv 1604.06174.
    """
    return [0, "elementwise", max(1, ceil(sqrt(len(workload.layers) / depth)))]


def zero_stages_of(workload: Workload, num_replicas: int) -> tuple[int, ...]:
    """The stages of ZeRO that make a difference; bf16 always uses 1."""
    if workload.precision == "bf16":
        return (1,)
    return (0, 1) if num_replicas > 1 and workload.exchange.allows_zero_1 else (0,)


def _divisors(number: int) -> list[int]:
    small = [divisor for divisor in range(1, isqrt(number) + 1) if number % divisor == 0]
    return sorted({*small, *(number // divisor for divisor in small)})
