"""A schedule as a value: for every stage the order of its forwards and backwards."""

from dataclasses import dataclass

from pipemlp.schedule.action import Action
from pipemlp.schedule.placement import Placement, stage_of, virtual_stages_of


@dataclass(frozen=True)
class Schedule:
    """What every stage computes, in which order.

    Args:
        name: as the user writes it.
        num_stages: ranks of the pipeline.
        num_virtual_stages: virtual stages that each stage holds.
        num_micro_batches: slices of a replica's batch.
        placement: which stage holds which virtual stages.
        actions: for each stage its actions of the kinds F, B, I and W.
    """

    name: str
    num_stages: int
    num_virtual_stages: int
    num_micro_batches: int
    placement: Placement
    actions: tuple[tuple[Action, ...], ...]

    @property
    def depth(self) -> int:
        """Virtual stages in all: `num_stages` x `num_virtual_stages`."""
        return self.num_stages * self.num_virtual_stages

    def stage_of(self, virtual_stage: int) -> int:
        """The stage that holds a virtual stage."""
        return stage_of(virtual_stage, self.num_stages, self.placement)

    def virtual_stages_of(self, stage: int) -> tuple[int, ...]:
        """The virtual stages that a stage holds, in rising order."""
        return virtual_stages_of(stage, self.num_stages, self.num_virtual_stages, self.placement)
