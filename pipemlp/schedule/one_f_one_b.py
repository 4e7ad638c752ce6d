"""1F1B: warm up with forwards, then alternate one forward and one backward, then drain.

Three stages, five micro-batches, a backward as long as a forward (time runs to the right):

    stage 0   F0 F1 F2 .. .. B0 F3 B1 F4 B2 .. B3 .. B4
    stage 1      F0 F1 .. B0 F2 B1 F3 B2 F4 B3 .. B4
    stage 2         F0 B0 F1 B1 F2 B2 F3 B3 F4 B4

Bubble: (p - 1) / (m + p - 1) for p equal stages and m micro-batches. In flight: p - s on stage s, at most m.
Source: PipeDream-Flush / Megatron-LM, arXiv 2104.04473, section 2.2.
"""

from pipemlp.schedule.alternating import alternate, check_sizes
from pipemlp.schedule.schedule import Schedule


def one_f_one_b(num_stages: int, num_micro_batches: int) -> Schedule:
    """As many forwards as there are stages from here on, then in turn.

    Raises:
        ValueError: if a size is below 1.
    """
    check_sizes(num_stages, num_micro_batches)
    rows = []
    for stage in range(num_stages):
        steps = [(stage, micro_batch) for micro_batch in range(num_micro_batches)]
        rows.append(alternate(steps, steps, min(num_stages - stage, num_micro_batches) - 1))
    return Schedule("1f1b", num_stages, 1, num_micro_batches, "loop", tuple(rows))
