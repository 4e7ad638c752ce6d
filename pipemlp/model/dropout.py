"""Dropout whose mask depends on seed, layer, step, row and column only, and never on how the run is cut."""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from pipemlp.model.dropout_mask import dropped


@dataclass(frozen=True)
class DropoutKey:
    """Where the rows of a forward pass stand in the run; the same key gives the same masks again.

    Args:
        seed: the run's seed.
        step: the optimizer step.
        first_row: position of the first row in the global batch.
    """

    seed: int
    step: int
    first_row: int


def dropout(x: Tensor, rate: float, key: DropoutKey | None, layer_index: int) -> Tensor:
    """Set a share `rate` of x [n, width] to zero and scale the rest by `1 / (1 - rate)`; no key, no dropout.

    Autograd keeps the mask, one byte per value, and nothing else.
    """
    if key is None or rate == 0.0:
        return x
    n, width = x.shape
    mask = dropped(
        (n, width), rate, seed=key.seed, layer=layer_index, step=key.step, first_row=key.first_row, device=x.device
    )
    return _Drop.apply(x, mask, 1.0 / (1.0 - rate))


class Dropout(nn.Module):
    """`dropout` of one layer, in training mode only."""

    def __init__(self, rate: float, layer_index: int) -> None:
        """Drop a share `rate` in the layer at `layer_index`."""
        super().__init__()
        self.rate = rate
        self.layer_index = layer_index

    def forward(self, x: Tensor, key: DropoutKey | None = None) -> Tensor:
        """x [n, width] -> [n, width]."""
        return dropout(x, self.rate, key, self.layer_index) if self.training else x

    def extra_repr(self) -> str:
        """What `print` shows."""
        return f"rate={self.rate}"


class _Drop(torch.autograd.Function):
    """Zero where the mask is true, scale elsewhere; linear, so the backward is the same operation."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, mask: Tensor, scale: float) -> Tensor:
        ctx.save_for_backward(mask)
        ctx.scale = scale
        return (x * scale).masked_fill_(mask, 0.0)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None]:  # type: ignore[override]
        (mask,) = ctx.saved_tensors
        return (gradient * ctx.scale).masked_fill_(mask, 0.0), None, None
