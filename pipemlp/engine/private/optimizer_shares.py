"""Where DeepSpeed's optimizers keep the values and states of a stage: whole parameters, or this rank's flat shard.

ZeRO 0           torch's optimizer: every parameter
ZeRO 1, float32  `single_partition_of_fp32_groups`: this rank's part of all parameters one after the other
bf16             `fp32_groups_flat_partition`: likewise, the float32 copies
"""

from collections.abc import Mapping, Sequence

from deepspeed.runtime.bf16_optimizer import BF16_Optimizer
from deepspeed.runtime.pipe.engine import PipelineEngine
from deepspeed.runtime.zero.stage_1_and_2 import DeepSpeedZeroOptimizer
from torch import Tensor, nn

from pipemlp.engine.share import Named, Run, Share, runs_between


def optimizer_shares(
    engine: PipelineEngine, named: Mapping[nn.Parameter, Named], replica: int
) -> tuple[list[Share], bool]:
    """This rank's shares, and whether every replica has the same ones.

    Args:
        engine: with its optimizer.
        named: the place of every parameter of the stage.
        replica: whose shard it is; 0 where DeepSpeed knows of one replica only.
    """
    optimizer = engine.optimizer
    if isinstance(optimizer, BF16_Optimizer):
        (flat,), (members,) = optimizer.fp32_groups_flat_partition, optimizer.bf16_groups
    elif isinstance(optimizer, DeepSpeedZeroOptimizer):
        (flat,), (members,) = optimizer.single_partition_of_fp32_groups, optimizer.bit16_groups
    else:
        whole = [
            Share(parameter, optimizer.state[parameter], [Run(own.layer, own.name, 0, own.num_values, 0)])
            for parameter, own in named.items()
        ]
        return whole, True
    return [_of_shard(flat, optimizer.optimizer.state[flat], [named[p] for p in members], replica)], False


def _of_shard(flat: Tensor, state: dict[str, Tensor], parameters: Sequence[Named], replica: int) -> Share:
    start = replica * flat.numel()
    return Share(flat, state, runs_between(parameters, start, start + flat.numel()))
