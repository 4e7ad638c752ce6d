"""One rank of the pipeline: train a batch, predict a batch, read and write the layers it holds."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import deepspeed
import torch
import torch.distributed as dist

from pipemlp.config.training import OptimizerConfig
from pipemlp.engine.deepspeed_config import deepspeed_config
from pipemlp.engine.optimizer import build_optimizer
from pipemlp.engine.private.stage_module import LossFunction, StageModule
from pipemlp.engine.private.timeouts import set_all_timeouts
from pipemlp.engine.private.train_batch import train_batch
from pipemlp.planning.layers import LayerDescription
from pipemlp.planning.plan import Plan

MicroBatch = tuple[object, tuple[torch.Tensor, torch.Tensor] | None]
"""Inputs (numeric, categorical) for the first stage, and (target, weight) for the last."""


@dataclass(frozen=True)
class Place:
    """Where a rank stands in the grid of stages and replicas."""

    stage: int
    num_stages: int
    replica: int
    num_replicas: int

    @property
    def is_first_stage(self) -> bool:
        """Whether this rank reads the inputs."""
        return self.stage == 0

    @property
    def is_last_stage(self) -> bool:
        """Whether this rank computes the loss."""
        return self.stage == self.num_stages - 1


def place_of(plan: Plan, global_rank: int) -> Place:
    """Replicas of a stage are neighbours: rank = stage x num_replicas + replica."""
    stage, replica = divmod(global_rank, plan.num_replicas)
    return Place(stage, plan.num_stages, replica, plan.num_replicas)


class Pipeline:
    """DeepSpeed's pipeline engine over this rank's layers.

    Args:
        layers: descriptions of the whole model; only this stage's layers are built.
        plan: boundaries, grid and micro-batches.
        optimizer: its configuration.
        loss: `loss(outputs, (target, weight))`, a scalar; the weights carry the divisor.
        clip_norm: largest norm of the whole model's gradient.
        precision: `fp32` or `bf16`.
        seed: of initialisation and dropout.
        timeout_seconds: how long a rank waits for another.
        dtype: of the parameters as built; tests use float64.
    """

    def __init__(
        self,
        layers: Sequence[LayerDescription],
        plan: Plan,
        *,
        optimizer: OptimizerConfig,
        loss: LossFunction,
        clip_norm: float | None,
        precision: str,
        seed: int,
        timeout_seconds: float,
        dtype: torch.dtype = torch.float32,
    ) -> None:
        self.plan = plan
        self.place = place_of(plan, dist.get_rank())
        self.module = StageModule(layers, plan, seed=seed, dtype=dtype, loss=loss)
        self.engine, _, _, _ = deepspeed.initialize(
            model=self.module,
            optimizer=build_optimizer(optimizer, self.module.parameters()),
            config=deepspeed_config(plan, clip_norm=clip_norm, precision=precision),
            dist_init_required=False,
        )
        set_all_timeouts(timeout_seconds)

    @property
    def data_group(self) -> dist.ProcessGroup:
        """The replicas of this rank's stage."""
        return self.engine.grid.get_data_parallel_group()

    @property
    def loss_rank(self) -> int:
        """Global rank of the last stage of replica 0, which knows the metrics."""
        return (self.plan.num_stages - 1) * self.plan.num_replicas

    def train_batch(
        self, micro_batches: Iterator[MicroBatch], *, step: int, learning_rate: float, share_loss: bool = True
    ) -> torch.Tensor | None:
        """One optimizer step over a global batch; returns its loss, a scalar, on every rank.

        Args:
            micro_batches: this replica's `num_micro_batches` slices, in order.
            step: optimizer steps done so far; dropout depends on it.
            learning_rate: for this step.
            share_loss: whether the ranks should wait for the loss; otherwise None is returned.
        """
        for group in self.engine.optimizer.param_groups:
            group["lr"] = learning_rate
        self.module.begin_batch(step)
        return train_batch(self.engine, micro_batches, share_loss)

    def predict_batch(self, micro_batches: Iterator[MicroBatch]) -> list[torch.Tensor]:
        """Outputs (rows x output width) of each micro-batch on the last stage; elsewhere an empty list."""
        # else the sum of the last training losses is added to outputs of another shape
        self.engine.total_loss = None
        outputs = self.engine.eval_batch(micro_batches, compute_loss=False, reduce_output=None)
        self.engine.total_loss = None
        return outputs if self.place.is_last_stage else []

    def layer_tensors(self) -> dict[int, dict[str, torch.Tensor]]:
        """Parameters by layer index and name, for the layers that this rank holds."""
        return {
            int(name): {key: value.detach() for key, value in module.named_parameters()}
            for name, module in self.module.named_children()
            if name.isdigit()
        }

    @torch.no_grad()
    def set_layer_tensors(self, tensors: dict[int, dict[str, torch.Tensor]]) -> None:
        """Overwrite parameters for evaluation; the optimizer's own copies stay as they are."""
        for index, own in self.layer_tensors().items():
            for name, value in own.items():
                value.copy_(tensors[index][name])


def cpu_copy(tensors: dict[int, dict[str, torch.Tensor]]) -> dict[int, dict[str, torch.Tensor]]:
    """A copy in host memory, detached from training."""
    return {
        index: {name: value.to("cpu", copy=True) for name, value in layer.items()} for index, layer in tensors.items()
    }


def broadcast_floats(values: Iterable[float], count: int, source: int, device: torch.device) -> list[float]:
    """`count` floats from global rank `source` to every rank."""
    buffer = torch.zeros(count, dtype=torch.float64, device=device)
    if dist.get_rank() == source:
        buffer.copy_(torch.tensor(list(values), dtype=torch.float64))
    dist.broadcast(buffer, src=source)
    return buffer.tolist()


def all_finite(tensors: dict[int, dict[str, torch.Tensor]], device: torch.device) -> bool:
    """Whether no rank holds NaN or infinity; the same answer on every rank."""
    own = all(bool(value.isfinite().all()) for layer in tensors.values() for value in layer.values())
    flag = torch.tensor(float(own), device=device)
    dist.all_reduce(flag, op=dist.ReduceOp.MIN)
    return bool(flag)
