"""1F1B: warm up with forwards, then alternate one forward and one backward, then drain.

Three stages, five micro-batches, a backward as long as a forward (time runs to the right):

    stage 0   F0 F1 F2 .. .. B0 F3 B1 F4 B2 .. B3 .. B4
    stage 1      F0 F1 .. B0 F2 B1 F3 B2 F4 B3 .. B4
    stage 2         F0 B0 F1 B1 F2 B2 F3 B3 F4 B4

Source: PipeDream-Flush / Megatron-LM, arXiv 2104.04473, section 2.2.
"""

from pipemlp.schedule.action import Action


def num_in_flight(stage: int, num_stages: int, num_micro_batches: int) -> int:
    """Micro-batches whose activations `stage` holds at once, at the most."""
    return min(num_stages - stage, num_micro_batches)


def stage_actions(stage: int, num_stages: int, num_micro_batches: int) -> tuple[Action, ...]:
    """The order in which `stage` runs its forwards and backwards."""
    num_warmup = num_in_flight(stage, num_stages, num_micro_batches) - 1
    warmup = [Action(stage, "F", m) for m in range(num_warmup)]
    steady = [
        action
        for m in range(num_micro_batches - num_warmup)
        for action in (Action(stage, "F", m + num_warmup), Action(stage, "B", m))
    ]
    cooldown = [Action(stage, "B", m) for m in range(num_micro_batches - num_warmup, num_micro_batches)]
    return (*warmup, *steady, *cooldown)


def bubble_fraction(num_stages: int, num_micro_batches: int) -> float:
    """Idle share of rank time with equal stages: (p - 1) / (m + p - 1)."""
    return (num_stages - 1) / (num_micro_batches + num_stages - 1)
