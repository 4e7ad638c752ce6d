"""Evaluate a whole split through the pipeline; every rank learns the result."""

from collections.abc import Iterator, Sequence

import torch

from pipemlp.data import PreparedData
from pipemlp.engine.pipeline import MicroBatch, Pipeline, broadcast_floats
from pipemlp.training.batches import BatchLoader
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
    if pipeline.place.is_last_stage:
        group = pipeline.data_group if pipeline.place.num_replicas > 1 else None
        metrics = SplitMetrics(names, data.shape, data.preprocessing, device=device, group=group)
    real_rows = loader.own_real_rows(split)
    for batch in loader.evaluation_batches(split):
        kept = list(batch)
        outputs = pipeline.predict_batch(iter(kept))
        if metrics is not None:
            _add(metrics, pipeline, outputs, kept, real_rows)
    values = metrics.compute() if metrics is not None else {}
    known = ("loss", *names)
    received = broadcast_floats(
        [values[name] for name in known] if values else (), len(known), pipeline.loss_rank, device
    )
    return dict(zip(known, received, strict=True))


def _add(
    metrics: SplitMetrics,
    pipeline: Pipeline,
    outputs: list[torch.Tensor],
    batch: list[MicroBatch],
    real_rows: Iterator[int],
) -> None:
    for output, (_, labels) in zip(outputs, batch, strict=True):
        assert labels is not None
        target, weight = labels
        num_real = next(real_rows)
        if num_real == 0:
            continue
        output, target, weight = output[:num_real], target[:num_real], weight[:num_real]
        loss = pipeline.module.loss_fn(output, (target, weight))
        metrics.update(output, target, loss)
