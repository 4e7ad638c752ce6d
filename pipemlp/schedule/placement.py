"""Which stage holds which virtual stages.

loop, 3 stages x 2        v, 3 stages x 2
stage 0   0  3            stage 0   0  5
stage 1   1  4            stage 1   1  4
stage 2   2  5            stage 2   2  3
"""

from typing import Literal

Placement = Literal["loop", "v"]


def stage_of(virtual_stage: int, num_stages: int, placement: Placement) -> int:
    """The stage that holds a global virtual stage."""
    turn, position = divmod(virtual_stage, num_stages)
    return num_stages - 1 - position if placement == "v" and turn % 2 else position


def virtual_stages_of(stage: int, num_stages: int, num_virtual_stages: int, placement: Placement) -> tuple[int, ...]:
    """The global virtual stages that a stage holds, in rising order."""
    return tuple(
        turn * num_stages + (num_stages - 1 - stage if placement == "v" and turn % 2 else stage)
        for turn in range(num_virtual_stages)
    )
