"""GPipe: all forwards, then all backwards.

Three stages, four micro-batches, a backward as long as a forward (time runs to the right):

    stage 0   F0 F1 F2 F3 .. .. .. .. B0 B1 B2 B3
    stage 1      F0 F1 F2 F3 .. .. B0 B1 B2 B3
    stage 2         F0 F1 F2 F3 B0 B1 B2 B3

Bubble: (p - 1) / (m + p - 1) for p equal stages and m micro-batches. In flight: all m micro-batches, on every stage.
Source: GPipe, arXiv 1811.06965, section 2.3.
"""

from pipemlp.schedule.alternating import alternate, check_sizes
from pipemlp.schedule.schedule import Schedule


def gpipe(num_stages: int, num_micro_batches: int) -> Schedule:
    """All forwards, then all backwards, in the same order.

    Raises:
        ValueError: if a size is below 1.
    """
    check_sizes(num_stages, num_micro_batches)
    rows = []
    for stage in range(num_stages):
        steps = [(stage, micro_batch) for micro_batch in range(num_micro_batches)]
        rows.append(alternate(steps, steps, num_warmup=num_micro_batches))
    return Schedule("gpipe", num_stages, 1, num_micro_batches, "loop", tuple(rows))
