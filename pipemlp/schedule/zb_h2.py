"""ZB-H2: so many forwards of warm-up that no stage idles between its first and its last action.

Three stages, five micro-batches, F, I and W equally long (time runs to the right):

    stage 0   F0 F1 F2 F3 F4 I0 W0 I1 W1 I2 W2 I3 W3 I4 W4
    stage 1      F0 F1 F2 I0 F3 I1 F4 I2 W0 I3 W1 I4 W2 W3 W4
    stage 2         F0 I0 F1 I1 F2 I2 F3 I3 F4 I4 W0 W1 W2 W3 W4

Stage s warms up with 2 (p - s) - 1 forwards instead of 1F1B's p - s, and runs each weight gradient 2 s backwards late;
with m < 2 p - 1 micro-batches less late, so that no more than m are in flight, but at least s.

Bubble: (p - 1) (F + I - 2 W) seconds, none if they are equal and m >= 2 p - 1, from a stage's first action to its last.
If the optimizer waits for all stages, the (p - 1) F by which they start one after the other stay: a share of
(p - 1) / (3 m + p - 1) with p equal stages and m >= p micro-batches, as with ZB-H1; but hops cost less. In flight:
2 p - 1 on every stage, at most m, each from its F to its W.
Source: Zero Bubble, arXiv 2401.10241, section 2 and table 2.
"""

from pipemlp.schedule.alternating import alternate, check_sizes
from pipemlp.schedule.schedule import Schedule


def zb_h2(num_stages: int, num_micro_batches: int) -> Schedule:
    """ZB-H1 with about twice the warm-up and twice the delay of the weight gradients.

    Raises:
        ValueError: if a size is below 1.
    """
    check_sizes(num_stages, num_micro_batches)
    rows = []
    for stage in range(num_stages):
        steps = [(stage, micro_batch) for micro_batch in range(num_micro_batches)]
        num_warmup = min(2 * (num_stages - 1 - stage), num_micro_batches)
        delay = min(2 * stage, max(stage, num_micro_batches - 1 - num_warmup))
        rows.append(alternate(steps, steps, num_warmup, delay))
    return Schedule("zb-h2", num_stages, 1, num_micro_batches, "loop", tuple(rows))
