"""Interleaved 1F1B: several virtual stages per stage, so that filling and draining goes in smaller steps.

Two stages with two virtual stages each, four micro-batches, a backward as long as a forward (time to the right):

    stage 0   0F0 0F1 2F0 2F1 0F2 2B0 0F3 2B1 2F2 0B0 2F3 0B1 ... 2B2 ... 2B3 0B2 0B3
    stage 1       1F0 1F1 3F0 3B0 3F1 3B1 1F2 1B0 1F3 1B1 3F2 3B2 3F3 3B3 1B2 1B3

The micro-batches go in rounds of about p: each stage takes a whole round through its first virtual stage, then
through its second, and so on. No round is shorter than p, so nobody waits for one to come around.

Bubble: (p - 1) / (v m + p - 1) for p equal stages, v virtual stages each and m >= p micro-batches. In flight on stage
s: ((v - 1) r + 2 (p - 1 - s) + 1) / v, at most m, where r is the length of the first round: p if p divides m.
Source: Megatron-LM, arXiv 2104.04473, section 2.2.2, for m a multiple of p. Longer rounds of equal length are those of
torch.distributed.pipelining; rounds of different lengths are ours.
"""

from pipemlp.schedule.alternating import Step, alternate, check_sizes
from pipemlp.schedule.one_f_one_b import one_f_one_b
from pipemlp.schedule.schedule import Schedule


def interleaved_one_f_one_b(num_stages: int, num_micro_batches: int, num_virtual_stages: int = 2) -> Schedule:
    """As 1F1B, by virtual stages in turn; with one of them per stage it is 1F1B.

    Raises:
        ValueError: if a size is below 1.
    """
    check_sizes(num_stages, num_micro_batches, num_virtual_stages)
    name = "interleaved-1f1b"
    if num_virtual_stages == 1:
        rows = one_f_one_b(num_stages, num_micro_batches).actions
        return Schedule(name, num_stages, 1, num_micro_batches, "loop", rows)
    lengths = rounds(num_stages, num_micro_batches)
    return Schedule(
        name,
        num_stages,
        num_virtual_stages,
        num_micro_batches,
        "loop",
        tuple(
            alternate(
                *steps_of(stage, num_stages, num_virtual_stages, lengths),
                num_warmup=(num_virtual_stages - 1) * lengths[0] + 2 * (num_stages - 1 - stage),
            )
            for stage in range(num_stages)
        ),
    )


def rounds(num_stages: int, num_micro_batches: int) -> tuple[int, ...]:
    """How many micro-batches go around together: `num_stages` or a few more, longer rounds first."""
    num_rounds = max(1, num_micro_batches // num_stages)
    length, num_longer = divmod(num_micro_batches, num_rounds)
    return (length + 1,) * num_longer + (length,) * (num_rounds - num_longer)


def steps_of(
    stage: int, num_stages: int, num_virtual_stages: int, lengths: tuple[int, ...]
) -> tuple[list[Step], list[Step]]:
    """The forwards and the backwards of a stage, each in their order."""
    virtual_stages = [turn * num_stages + stage for turn in range(num_virtual_stages)]
    forwards: list[Step] = []
    backwards: list[Step] = []
    start = 0
    for length in lengths:
        micro_batches = range(start, start + length)
        forwards += [(virtual_stage, m) for virtual_stage in virtual_stages for m in micro_batches]
        backwards += [(virtual_stage, m) for virtual_stage in reversed(virtual_stages) for m in micro_batches]
        start += length
    return forwards, backwards
