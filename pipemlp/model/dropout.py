"""Dropout whose mask depends on seed, layer, step, row and column only, and never on how the run is cut."""

from dataclasses import dataclass

from torch import Tensor, nn

from pipemlp.model.dropout_mask import kept_values


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
    kept = kept_values(
        (n, width), rate, seed=key.seed, layer=layer_index, step=key.step, first_row=key.first_row, device=x.device
    )
    return x * kept * (1.0 / (1.0 - rate))


class Dropout(nn.Module):
    """`dropout` of one layer, in training mode only."""

    def __init__(self, rate: float, layer_index: int) -> None:
        super().__init__()
        self.rate = rate
        self.layer_index = layer_index

    def forward(self, x: Tensor, key: DropoutKey | None = None) -> Tensor:
        """x [n, width] -> [n, width]."""
        return dropout(x, self.rate, key, self.layer_index) if self.training else x

    def extra_repr(self) -> str:
        """What `print` shows."""
        return f"rate={self.rate}"
