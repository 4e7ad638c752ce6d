"""R2 whose states have the same shape on every replica, rows or not, and which one row does not stop."""

import torch
import torchmetrics
from torch import Tensor

from pipemlp.planning.shapes import DataShape

_ROUNDING = 1e-12
"""A variance below this share of the mean square is what float64 sums leave of a constant."""


class R2Score(torchmetrics.Metric):
    """1 - (sum of squared errors) / (sum of squares about the mean), averaged over the outputs.

    NaN with fewer than two rows. A constant target counts 1 if it is met exactly and else 0, as in scikit-learn.
    torchmetrics' own raises with one row, and hangs when a replica has no row and there are several outputs.
    """

    higher_is_better = True

    def __init__(self, shape: DataShape) -> None:
        super().__init__()
        for name in ("squared_errors", "sums", "squares", "count"):
            empty = torch.zeros(1 if name == "count" else shape.output_width, dtype=torch.float64)
            self.add_state(name, empty, dist_reduce_fx="sum")

    def update(self, outputs: Tensor, target: Tensor) -> None:
        """Add a batch of outputs and targets, [rows] or [rows, outputs]."""
        outputs, target = (values.double().reshape(len(values), -1) for values in (outputs, target))
        self.squared_errors += (outputs - target).square().sum(0)
        self.sums += target.sum(0)
        self.squares += target.square().sum(0)
        self.count += len(target)

    def compute(self) -> Tensor:
        """The mean over the outputs."""
        if self.count < 2:
            return torch.full((), torch.nan, dtype=torch.float64)
        about_mean = self.squares - self.sums.square() / self.count
        constant = about_mean <= _ROUNDING * self.squares
        score = 1 - self.squared_errors / torch.where(constant, 1.0, about_mean)
        return torch.where(constant, (self.squared_errors == 0).double(), score).mean()
