"""Losses: a per-row function by name, weighted and summed over the rows of a micro-batch."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from pipemlp.config.registry import register_name
from pipemlp.config.section import Named
from pipemlp.model import row_losses
from pipemlp.planning.shapes import Task

RowLosses = Callable[[Tensor, Tensor, Any], Tensor]
"""fn(outputs [n, k], target, options) -> the loss of each row [n]."""

_losses: dict[str, tuple[RowLosses, Task]] = {
    "mse": (row_losses.mse, "regression"),
    "mae": (row_losses.mae, "regression"),
    "huber": (row_losses.huber, "regression"),
    "cross_entropy": (row_losses.cross_entropy, "classification"),
    "binary_cross_entropy": (row_losses.binary_cross_entropy, "multilabel"),
}


@dataclass(frozen=True)
class Loss:
    """A loss with its options: `loss(outputs, target, weight)`."""

    options: Named
    rows: RowLosses

    def per_row(self, outputs: Tensor, target: Tensor) -> Tensor:
        """The loss of each row [n], in float32 at least.

        Args:
            outputs: [n, k].
            target: float [n, k] for regression and multi-label, int64 [n] for classification.

        Raises:
            ValueError: if a plug-in's function returns another shape than [n].
        """
        losses = self.rows(_widened(outputs), target, self.options)
        if losses.shape != outputs.shape[:1]:
            raise ValueError(
                f"loss {self.options.name}: expected one value per row, shape {tuple(outputs.shape[:1])}, "
                f"got {tuple(losses.shape)}"
            )
        return losses

    def __call__(self, outputs: Tensor, target: Tensor, weight: Tensor) -> Tensor:
        """The sum over rows of `weight * loss`, a scalar in float32 (float64 for float64 outputs).

        Args:
            outputs, target: as for `per_row`.
            weight: [n]; holds the divisor too: (sample weight) / (real samples of the global batch), zero for padding.
        """
        losses = self.per_row(outputs, target)
        return (weight.to(losses.dtype) * losses).sum()


def build_loss(config: Named) -> Loss:
    """The loss named and set by the config section `loss`."""
    return Loss(config, _losses[config.name][0])


def loss_task(config: Named) -> Task:
    """The task that a loss is for."""
    return _losses[config.name][1]


def register_loss(name: str, *, task: Task, options: type[Named] | None = None) -> Callable[[RowLosses], RowLosses]:
    """Decorate `fn(outputs [n, k], target, options) -> [n]` so that `loss: NAME` trains with it.

    Outputs arrive in float32 at least. A row's loss must not depend on other rows: rows are cut into
    micro-batches and spread over replicas, and a ragged batch is padded with rows of weight zero.

    Args:
        name: as written in the config.
        task: what the target is: `regression` (float [n, k]), `classification` (int64 [n]) or
            `multilabel` (0 or 1, [n, k]).
        options: the model of the loss's own keys; none when left out.

    Raises:
        ValueError: if the name is taken.
    """
    register_name("loss", name, options, task)

    def enter(rows: RowLosses) -> RowLosses:
        _losses[name] = (rows, task)
        return rows

    return enter


def _widened(x: Tensor) -> Tensor:
    return x if x.dtype == torch.float64 else x.float()
