"""Evaluate a whole split through the pipeline; every rank learns the result."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch

from pipemlp.data import PreparedData
from pipemlp.engine.pipeline import MicroBatch, Pipeline, broadcast_floats
from pipemlp.training.batches import BatchLoader
from pipemlp.training.light_torchmetrics import import_torchmetrics

if TYPE_CHECKING:
    from pipemlp.training.metrics import SplitMetrics


def evaluate_split(
    pipeline: Pipeline,
    loader: BatchLoader,
    data: PreparedData,
    split: str,
    names: Sequence[str],
    device: torch.device,
) -> dict[str, float]:
    """Loss and metrics by name over every row of the split, each counted once."""
    metrics = None
    if pipeline.place.computes_loss:
        import_torchmetrics()  # here, as no other rank needs it
        from pipemlp.training.metrics import SplitMetrics

        group = pipeline.data_group if pipeline.place.num_replicas > 1 else None
        metrics = SplitMetrics(names, data.shape, data.preprocessing, device=device, group=group)
    for batch, rows in loader.evaluation_batches(split):
        outputs = pipeline.predict_batch(batch, rows)
        if metrics is not None:
            _add(metrics, pipeline, outputs, batch)
    values = metrics.compute() if metrics is not None else {}
    known = ("loss", *names)
    received = broadcast_floats(
        [values[name] for name in known] if values else (), len(known), pipeline.loss_rank, device
    )
    return dict(zip(known, received, strict=True))


def _add(
    metrics: "SplitMetrics", pipeline: Pipeline, outputs: Sequence[torch.Tensor], batch: Sequence[MicroBatch]
) -> None:
    for output, (_, labels) in zip(outputs, batch, strict=True):
        assert labels is not None
        metrics.update(output, labels[0], pipeline.loss(output, labels))
