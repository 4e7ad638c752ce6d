"""Metrics that keep all rows, over replicas of which some may have none."""

from typing import Any

import torch
import torch.distributed as dist
import torchmetrics
from torch import Tensor


def gathered(metric: torchmetrics.Metric, group: dist.ProcessGroup) -> torchmetrics.Metric:
    """The metric itself, or, if it keeps lists of rows, one that gives it the rows of all replicas.

    torchmetrics gathers a list only where there is one: with a replica without rows the others would wait.
    """
    return GatheredMetric(metric, group) if any(isinstance(v, list) for v in metric.metric_state.values()) else metric


class GatheredMetric(torchmetrics.Metric):
    """Collects outputs and targets, and computes the metric from those of all replicas on each of them."""

    def __init__(self, metric: torchmetrics.Metric, group: dist.ProcessGroup) -> None:
        super().__init__(distributed_available_fn=lambda: False)
        metric.distributed_available_fn = lambda: False
        self._whole = metric
        self._replicas = group
        self._rows: list[tuple[Tensor, Tensor]] = []

    def update(self, outputs: Tensor, target: Tensor) -> None:
        """Keep a batch of rows."""
        self._rows.append((outputs.cpu(), target.cpu()))

    def compute(self) -> Any:
        """The metric over the rows of all replicas, in their order."""
        parts: list[Any] = [None] * dist.get_world_size(self._replicas)
        dist.all_gather_object(parts, self._rows, group=self._replicas)
        rows = [row for part in parts for row in part]
        outputs, target = (torch.cat(column) for column in zip(*rows, strict=True))
        self._whole.to("cpu").update(outputs, target)
        return self._whole.compute()
