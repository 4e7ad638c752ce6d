"""Time what all replicas do together, in alternation.

round 1   a b c        a barrier before every call
round 2   b c a        its time is that of the slowest replica
round 3   c a b
"""

import gc
import time
from collections.abc import Callable, Mapping

import torch.distributed as dist


def timed_calls(
    calls: Mapping[str, Callable[[], None]],
    num_rounds: int,
    num_warm_up: int = 1,
    before: Callable[[str, int], None] = lambda name, index: None,
) -> dict[str, list[float]]:
    """Run on every rank: the seconds of every call in every round; the same on every rank.

    Args:
        calls: by name.
        num_rounds: that count.
        num_warm_up: that do not.
        before: called with the name and the round, and not timed.
    """
    own: dict[str, list[float]] = {name: [] for name in calls}
    names = list(calls)
    gc.collect()
    gc.freeze()
    for index in range(num_warm_up + num_rounds):
        for turn in range(len(names)):
            name = names[(turn + index) % len(names)]
            before(name, index)
            dist.barrier()
            started = time.perf_counter()
            calls[name]()
            seconds = time.perf_counter() - started
            if index >= num_warm_up:
                own[name].append(seconds)
    gc.unfreeze()
    everyone = [own] * dist.get_world_size()
    dist.all_gather_object(everyone, own)
    return {name: [max(rounds) for rounds in zip(*(each[name] for each in everyone), strict=True)] for name in names}
