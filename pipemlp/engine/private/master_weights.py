"""The weights that an optimizer moves: the parameters themselves, or for bf16 DeepSpeed's float32 copies."""

from collections.abc import Sequence

import torch
from deepspeed.runtime.bf16_optimizer import BF16_Optimizer
from deepspeed.runtime.pipe.engine import PipelineEngine
from torch import Tensor, nn


def read_weights(engine: PipelineEngine, parameters: Sequence[nn.Parameter]) -> Tensor:
    """A copy of all of them, 1-D, in the order of `parameters`; of an engine that knows one replica only."""
    if isinstance(engine.optimizer, BF16_Optimizer):
        (flat,) = engine.optimizer.fp32_groups_flat_partition
        return flat.detach()[: sum(parameter.numel() for parameter in parameters)].clone()
    return torch.cat([parameter.detach().flatten() for parameter in parameters])


@torch.no_grad()
def write_weights(engine: PipelineEngine, parameters: Sequence[nn.Parameter], weights: Tensor) -> None:
    """Overwrite them, and the parameters with them."""
    if isinstance(engine.optimizer, BF16_Optimizer):
        (flat,) = engine.optimizer.fp32_groups_flat_partition
        flat[: len(weights)].copy_(weights)
    start = 0
    for parameter in parameters:
        values = weights[start : start + parameter.numel()]
        parameter.copy_(values.view(parameter.shape))
        start += parameter.numel()
