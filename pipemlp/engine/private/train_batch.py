"""DeepSpeed's `train_batch`, which shares the loss with every rank at every step, or only when it is wanted."""

from collections.abc import Iterator
from typing import Any

import torch
from deepspeed.runtime.pipe.engine import PipelineEngine


def train_batch(engine: PipelineEngine, micro_batches: Iterator[Any], share_loss: bool) -> torch.Tensor | None:
    """Train on one global batch; the mean loss over micro-batches and replicas, on every rank, if it is wanted.

    Sharing it takes a reduction over the replicas and a broadcast over the stages, which every rank waits for.
    """
    if share_loss:
        return engine.train_batch(data_iter=micro_batches)
    engine._aggregate_total_loss = lambda: None
    try:
        engine.train_batch(data_iter=micro_batches)
    finally:
        del engine._aggregate_total_loss
    return None
