"""Forwards alone, for evaluation.

Placed as a loop, micro-batches go around in rounds as in interleaved 1F1B, of twice the length: a hop may then take
as long as a forward, and still nobody waits for the round to come back. Placed as a V, what has come furthest goes
first: stage p - 1 turns each micro-batch around at once.

Three stages with two virtual stages each, four micro-batches, as a loop and as a V (time runs to the right):

    loop 0   0F0 0F1 0F2 0F3 3F0 3F1 3F2 3F3
    loop 1       1F0 1F1 1F2 1F3 4F0 4F1 4F2 4F3
    loop 2           2F0 2F1 2F2 2F3 5F0 5F1 5F2 5F3

    v    0   0F0 0F1 0F2 0F3 ... 5F0 ... 5F1 ... 5F2 ... 5F3
    v    1       1F0 1F1 1F2 4F0 1F3 4F1 ... 4F2 ... 4F3
    v    2           2F0 3F0 2F1 3F1 2F2 3F2 2F3 3F3

A loop takes v m + p - 1 forwards of a virtual stage if m >= p, a V of two virtual stages per stage 2 m + 2 (p - 1):
nothing can be faster.
"""

from pipemlp.schedule.action import Action
from pipemlp.schedule.alternating import check_sizes
from pipemlp.schedule.interleaved import rounds, steps_of
from pipemlp.schedule.placement import Placement, virtual_stages_of
from pipemlp.schedule.schedule import Schedule


def forward_only(num_stages: int, num_micro_batches: int, num_virtual_stages: int, placement: Placement) -> Schedule:
    """Every forward once.

    Raises:
        ValueError: if a size is below 1.
    """
    check_sizes(num_stages, num_micro_batches, num_virtual_stages)
    if placement == "loop":
        lengths = rounds(2 * num_stages, num_micro_batches)
        rows = tuple(
            tuple(
                Action(virtual_stage, "F", micro_batch)
                for virtual_stage, micro_batch in steps_of(stage, num_stages, num_virtual_stages, lengths)[0]
            )
            for stage in range(num_stages)
        )
    else:
        rows = _furthest_first(num_stages, num_micro_batches, num_virtual_stages)
    return Schedule("forward-only", num_stages, num_virtual_stages, num_micro_batches, placement, rows)


def _furthest_first(num_stages: int, num_micro_batches: int, num_virtual_stages: int) -> tuple[tuple[Action, ...], ...]:
    """Let time run: at every tick each stage takes the last of its virtual stages that has something to do."""
    depth = num_stages * num_virtual_stages
    held = [virtual_stages_of(stage, num_stages, num_virtual_stages, "v")[::-1] for stage in range(num_stages)]
    waiting = [num_micro_batches] + [0] * (depth - 1)
    next_micro_batch = [0] * depth
    rows: list[list[Action]] = [[] for _ in range(num_stages)]
    while next_micro_batch[-1] < num_micro_batches:
        taken = [next((v for v in virtual_stages if waiting[v]), None) for virtual_stages in held]
        for row, virtual_stage in zip(rows, taken, strict=True):
            if virtual_stage is not None:
                row.append(Action(virtual_stage, "F", next_micro_batch[virtual_stage]))
                next_micro_batch[virtual_stage] += 1
                waiting[virtual_stage] -= 1
                if virtual_stage + 1 < depth:
                    waiting[virtual_stage + 1] += 1
    return tuple(map(tuple, rows))
