"""What every competitor trains, and what a competitor is."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor, nn

from pipemlp.planning.layers import LayerDescription
from pipemlp.schedule.schedule import Schedule

LEARNING_RATE = 0.01
"""Of plain SGD, which all take."""


@dataclass(frozen=True)
class Workload:
    """A model and a global batch, trained on step after step.

    Args:
        num_stages, num_micro_batches: the grid; one replica.
        descriptions: of the layers, for ours; as many as a multiple of the virtual stages.
        layers: builds layer i as torch's users would write it, for the others; with the same weights.
        loss: of outputs and target of a micro-batch, the mean over its rows.
        inputs, target: a global batch, [num_micro_batches x rows, ...].
        bf16: instead of float32.
    """

    num_stages: int
    num_micro_batches: int
    descriptions: Sequence[LayerDescription]
    layers: Callable[[int], nn.Module]
    loss: Callable[[Tensor, Tensor], Tensor]
    inputs: Tensor
    target: Tensor
    bf16: bool = False

    @property
    def num_layers(self) -> int:
        """Of the whole model."""
        return len(self.descriptions)

    @property
    def rows(self) -> int:
        """In one micro-batch."""
        return len(self.inputs) // self.num_micro_batches

    @property
    def device(self) -> torch.device:
        """Of all tensors."""
        return self.inputs.device

    def micro_batches(self) -> list[tuple[Tensor, Tensor]]:
        """The global batch in slices."""
        count = self.num_micro_batches
        return list(zip(self.inputs.chunk(count), self.target.chunk(count), strict=True))

    def boundaries(self, depth: int) -> tuple[int, ...]:
        """An even cut into `depth` virtual stages."""
        return tuple(range(0, self.num_layers + 1, self.num_layers // depth))


class Competitor(Protocol):
    """One system with one schedule, on this rank.

    Args:
        system, schedule: as in the results.
        order: what all ranks compute, as one of our values.
    """

    system: str
    schedule: str
    order: Schedule

    def step(self) -> None:
        """Train on the global batch: all micro-batches, the optimizer's step, gradients cleared."""

    def last_loss(self) -> float | None:
        """The mean loss of the last step, on a rank that knows it."""

    def kept_between_steps(self) -> Sequence[Tensor]:
        """Parameters and their gradients: what is no activation."""
