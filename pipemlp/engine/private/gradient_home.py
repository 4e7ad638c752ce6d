"""Where DeepSpeed's optimizers want the summed gradients: on the parameters, in flat shards, or in float32 buffers.

    ZeRO 0           parameter.grad
    ZeRO 1, float32  parameter.grad, then the optimizer's `averaged_gradients`: this rank's flat shard
    bf16             the optimizer's own float32 buffer, in which we sum up directly

Everything is reduced over the replicas before it is handed over, so that `_exec_reduce_grads` is never called.
"""

from collections.abc import Iterable, Sequence

import torch
from deepspeed.runtime.bf16_optimizer import BF16_Optimizer
from deepspeed.runtime.pipe.engine import PipelineEngine
from deepspeed.runtime.zero.stage_1_and_2 import DeepSpeedZeroOptimizer
from torch import Tensor, nn


def flat_buffer(engine: PipelineEngine, parameters: Sequence[nn.Parameter]) -> Tensor:
    """The buffer in which the gradients of `parameters` are summed up, in their order; one optimizer group."""
    optimizer = engine.optimizer
    if isinstance(optimizer, BF16_Optimizer):
        (flat,) = optimizer.fp32_groups_gradients_flat
        (members,) = optimizer.bf16_groups
        assert [id(p) for p in members] == [id(p) for p in parameters]
        return flat
    first = parameters[0]
    return torch.empty(sum(parameter.numel() for parameter in parameters), dtype=first.dtype, device=first.device)


def hand_over(engine: PipelineEngine, sums: Iterable[tuple[nn.Parameter, Tensor]]) -> None:
    """Put the finished sums where the optimizer's step takes them."""
    optimizer = engine.optimizer
    if isinstance(optimizer, BF16_Optimizer):
        optimizer.fp32_groups_has_gradients[0] = [True] * len(optimizer.bf16_groups[0])
        return
    for parameter, value in sums:
        parameter.grad = value
    if isinstance(optimizer, DeepSpeedZeroOptimizer):
        for index in range(len(optimizer.bit16_groups)):
            own = optimizer.params_in_partition[index]
            optimizer.all_grad_tensors[index] = optimizer.get_all_grad_tensors(
                own, optimizer.gradient_accumulation_dtype
            )
            optimizer.averaged_gradients[index] = optimizer.get_flat_partition(
                own,
                optimizer.first_offset[index],
                optimizer.partition_size[index],
                dtype=optimizer.gradient_accumulation_dtype,
                device=own[0].device if own else engine.device,
                param_group_idx=index,
                return_tensor_list=True,
            )
            optimizer.all_grad_tensors[index] = None
        for parameter, _ in sums:
            parameter.grad = None
