"""Measure competitors in the same processes, step by step in alternation.

round 1   a b c        a barrier before every step
round 2   b c a        the time of a step is that of its slowest rank
round 3   c a b
"""

import gc
import time
from collections.abc import Sequence

import torch
import torch.distributed as dist
from schedule_lines import Measured
from workload import Competitor


def alternate(competitors: Sequence[Competitor], num_rounds: int, num_warm_up: int = 2) -> list[Measured]:
    """Run on every rank; the same result on every rank, in the order of the competitors."""
    seconds: list[list[float]] = [[] for _ in competitors]
    losses: list[list[float]] = [[] for _ in competitors]
    for index in range(num_warm_up + num_rounds):
        if index == num_warm_up:
            gc.collect()
            gc.freeze()  # else a collection walks over all of torch in the middle of somebody's step
        for turn in range(len(competitors)):
            chosen = (turn + index) % len(competitors)
            taken = _timed_step(competitors[chosen])
            losses[chosen].append(_shared_loss(competitors[chosen]))
            if index >= num_warm_up:
                seconds[chosen].append(taken)
    gc.unfreeze()
    return [
        Measured(competitor.system, competitor.schedule, tuple(slowest), tuple(known))
        for competitor, slowest, known in zip(competitors, _slowest(seconds), losses, strict=True)
    ]


def _timed_step(competitor: Competitor) -> float:
    _synchronise()
    dist.barrier()
    started = time.perf_counter()
    competitor.step()
    _synchronise()
    return time.perf_counter() - started


def _synchronise() -> None:
    if torch.cuda.is_available():
        torch.cuda.synchronize()


def _slowest(seconds: list[list[float]]) -> list[list[float]]:
    everyone: list[list[list[float]]] = [[] for _ in range(dist.get_world_size())]
    dist.all_gather_object(everyone, seconds)
    return [
        [max(values) for values in zip(*(own[index] for own in everyone), strict=True)] for index in range(len(seconds))
    ]


def _shared_loss(competitor: Competitor) -> float:
    """From whichever rank knows it."""
    everyone: list[float | None] = [None] * dist.get_world_size()
    dist.all_gather_object(everyone, competitor.last_loss())
    return next(loss for loss in everyone if loss is not None)
