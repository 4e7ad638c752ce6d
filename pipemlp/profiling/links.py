"""What messages and reductions take between the ranks at hand, all links busy at once.

message      rank 0 <-> 1, 2 <-> 3, ...      there and back, half of it counts
reduction    the sum over all ranks          as a ring would: 2 (n - 1) / n of the bytes leave every rank
patterns     the same by each of ours        by the bytes that are summed
"""

from collections.abc import Callable, Mapping, Sequence

import torch
import torch.distributed as dist

from pipemlp.planning.machine import Curve, Network, PatternTimes
from pipemlp.profiling.rounds import measure, timing_of
from pipemlp.profiling.together import Together

REDUCED_BYTES = (2**16, 2**20, 2**24)
"""Up to the bucket in which gradients are reduced."""
NUM_BLOCKS = 10
EXCHANGES = 4
"""In one round: the first after a pause takes longer than those that follow."""


Sum = Callable[[torch.Tensor], None]
"""Sums a vector over all ranks, in place."""


def measure_network(together: Together, message_bytes: Sequence[int], patterns: Mapping[str, Sum]) -> Network:
    """Run on every rank of several.

    Args:
        together: the ranks.
        message_bytes: sizes of tensors between stages, rising.
        patterns: our own ways to sum over all ranks, by name.
    """
    messages = [_message_seconds(together, size) for size in message_bytes]
    reductions = [_sum_seconds(together, size, dist.all_reduce) for size in REDUCED_BYTES]
    sizes = tuple(map(float, REDUCED_BYTES))
    own = [
        PatternTimes(
            name, together.num_ranks, Curve(sizes, tuple(_sum_seconds(together, size, do) for size in REDUCED_BYTES))
        )
        for name, do in patterns.items()
    ]
    share = 2 * (together.num_ranks - 1) / together.num_ranks
    return Network(
        message=_rising(message_bytes, messages),
        reduction=_rising([share * size for size in REDUCED_BYTES], reductions),
        patterns=tuple(own),
    )


def _rising(sizes: Sequence[float], seconds: Sequence[float]) -> Curve:
    """A larger message never takes less."""
    highest = [max(seconds[: index + 1]) for index in range(len(seconds))]
    return Curve(tuple(map(float, sizes)), tuple(highest))


def _message_seconds(together: Together, num_bytes: int) -> float:
    tensor = torch.zeros(max(1, num_bytes), dtype=torch.uint8, device=together.device)
    peer = together.rank ^ 1
    alone = peer >= together.num_ranks
    first = together.rank < peer

    def exchange() -> tuple[float]:
        started = together.now()
        for _ in range(0 if alone else EXCHANGES):
            if first:
                dist.send(tensor, peer)
                dist.recv(tensor, peer)
            else:
                dist.recv(tensor, peer)
                dist.send(tensor, peer)
        return ((together.now() - started) / (2 * EXCHANGES),)

    own = timing_of(measure(exchange, together, NUM_BLOCKS)).phases[0]
    known = [seconds for rank, seconds in enumerate(together.gathered(own)) if (rank ^ 1) < together.num_ranks]
    return float(max(known))


def _sum_seconds(together: Together, num_bytes: int, do: Callable[[torch.Tensor], object]) -> float:
    tensor = torch.zeros(num_bytes // 4, device=together.device)

    def reduce() -> tuple[float]:
        started = together.now()
        do(tensor)
        return (together.now() - started,)

    return timing_of(measure(reduce, together, NUM_BLOCKS)).phases[0]
