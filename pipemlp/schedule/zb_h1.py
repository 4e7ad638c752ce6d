"""ZB-H1: 1F1B with the weight gradients put off to where a stage would idle, in the memory of 1F1B.

Three stages, four micro-batches, F, I and W equally long (time runs to the right):

    stage 0   F0 F1 F2 .. .. I0 W0 F3 I1 W1 I2 W2 I3 W3
    stage 1      F0 F1 .. I0 F2 I1 W0 F3 I2 W1 I3 W2 W3
    stage 2         F0 I0 F1 I1 F2 I2 W0 F3 I3 W1 W2 W3

Stage s runs each weight gradient s backwards late, so that the input gradients travel back without waiting for it.

Bubble: (p - 1) (F + I - W) seconds, a third of 1F1B's if they are equal: (p - 1) / (3 m + p - 1) of the step with p
equal stages and m >= p micro-batches. In flight: p on every stage, at most m, each from its F to its W.
Source: Zero Bubble, arXiv 2401.10241, section 2 and table 2.
"""

from pipemlp.schedule.alternating import alternate, check_sizes
from pipemlp.schedule.schedule import Schedule


def zb_h1(num_stages: int, num_micro_batches: int) -> Schedule:
    """1F1B with weight gradients that are as many backwards late as there are stages before.

    Raises:
        ValueError: if a size is below 1.
    """
    check_sizes(num_stages, num_micro_batches)
    rows = []
    for stage in range(num_stages):
        steps = [(stage, micro_batch) for micro_batch in range(num_micro_batches)]
        rows.append(alternate(steps, steps, num_warmup=num_stages - 1 - stage, weight_delay=stage))
    return Schedule("zb-h1", num_stages, 1, num_micro_batches, "loop", tuple(rows))
