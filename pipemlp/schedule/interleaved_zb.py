"""Interleaved zero bubble: interleaved 1F1B with split backwards and half the warm-up.

Three stages with two virtual stages each, three micro-batches, F, I and W equally long (time runs to the right):

    stage 0   0F0 0F1 0F2 3F0 3F1 3F2 ... ... 3I0 3W0 3I1 3W1 3I2 3W2 0I0 0W0 0I1 0W1 0I2 0W2
    stage 1       1F0 1F1 1F2 4F0 4F1 ... 4I0 4F2 4I1 4W0 4I2 4W1 1I0 4W2 1I1 1W0 1I2 1W1 1W2
    stage 2           2F0 2F1 2F2 5F0 5I0 5F1 5I1 5F2 5I2 5W0 2I0 5W1 2I1 5W2 2I2 2W0 2W1 2W2

Rounds as in interleaved 1F1B; stage s runs each weight gradient s backwards late, as ZB-H1 does.

Bubble: (p - 1) / (3 v m + p - 1) for p equal stages, v virtual stages each and m >= p micro-batches. In flight on stage
0: ((v - 1) r + p) / v, at most m, where r is the length of the first round; that is p if p divides m.
Source: ZB-H1 of Zero Bubble, arXiv 2401.10241, interleaved as in torch.distributed.pipelining's InterleavedZeroBubble:
the same order where all rounds are equally long.
"""

from pipemlp.schedule.alternating import alternate, check_sizes
from pipemlp.schedule.interleaved import rounds, steps_of
from pipemlp.schedule.schedule import Schedule


def interleaved_zb(num_stages: int, num_micro_batches: int, num_virtual_stages: int = 2) -> Schedule:
    """As ZB-H1, by virtual stages in turn; with one of them per stage it is ZB-H1.

    Raises:
        ValueError: if a size is below 1.
    """
    check_sizes(num_stages, num_micro_batches, num_virtual_stages)
    lengths = rounds(num_stages, num_micro_batches)
    return Schedule(
        "interleaved-zb",
        num_stages,
        num_virtual_stages,
        num_micro_batches,
        "loop",
        tuple(
            alternate(
                *steps_of(stage, num_stages, num_virtual_stages, lengths),
                num_warmup=(num_virtual_stages - 1) * lengths[0] + num_stages - 1 - stage,
                weight_delay=stage,
            )
            for stage in range(num_stages)
        ),
    )
