"""Our executor as a competitor: `Pipeline.train_batch`, which the trainer calls, over evenly cut layers."""

from collections.abc import Mapping, Sequence
from typing import Any, Literal

import torch
from emulated import EmulatedLayer
from pipeline_rivals import with_gradients
from torch import Tensor
from workload import LEARNING_RATE, Workload

from pipemlp.config.model import ModelConfig
from pipemlp.config.section import Named, PositiveFloat
from pipemlp.config.training import Sgd
from pipemlp.engine.pipeline import Pipeline
from pipemlp.model.blocks import register_block
from pipemlp.model.weight_gradients import current_pass
from pipemlp.planning.block_parts import BlockCost, BlockSetting, Parameter
from pipemlp.planning.layers import LayerDescription, describe_layers
from pipemlp.planning.plan import Plan
from pipemlp.planning.recompute import Recompute
from pipemlp.planning.shapes import DataShape
from pipemlp.schedule.schedule import Schedule

SEED = 3
TIMEOUT_SECONDS = 300.0


class Ours:
    """This rank's part of the product's pipeline.

    Args:
        workload: what to train.
        order: by which schedule.
        recompute: what the backward computes again.
    """

    system = "pipemlp"

    def __init__(self, workload: Workload, order: Schedule, recompute: Recompute = 0) -> None:
        self.order = order
        self.schedule = order.name
        plan = Plan(
            boundaries=workload.boundaries(order.depth),
            schedule=order,
            num_replicas=1,
            micro_batch_rows=workload.rows,
            zero_stage=1 if workload.bf16 else 0,
            recompute=recompute,
        )
        self.pipeline = Pipeline(
            workload.descriptions,
            plan,
            optimizer=Sgd(lr=LEARNING_RATE, momentum=0.0),
            loss=lambda outputs, labels: workload.loss(outputs, labels[0]),
            clip_norm=None,
            precision="bf16" if workload.bf16 else "fp32",
            seed=SEED,
            timeout_seconds=TIMEOUT_SECONDS,
        )
        place = self.pipeline.place
        weight = torch.ones(workload.rows, device=workload.device)
        given: list[Any] = [(inputs, (target, weight)) for inputs, target in workload.micro_batches()]
        self._micro_batches = given if place.reads_inputs or place.computes_loss else []
        self._num_steps = 0

    def step(self) -> None:
        """As in training, where a loss is shared when it is logged; DeepSpeed shares it at every step."""
        self.pipeline.train_batch(self._micro_batches, step=self._num_steps, learning_rate=LEARNING_RATE)
        self._num_steps += 1

    def last_loss(self) -> float | None:
        """Asked between steps, of all ranks."""
        return float(self.pipeline.batch_loss())

    def kept_between_steps(self) -> Sequence[Tensor]:
        """The module's own, and the sums of gradients."""
        return [*with_gradients([self.pipeline.module]), *(bucket.values for bucket in self.pipeline._sums._buckets)]


class EmulatedOptions(Named):
    """`block: {name: emulated, seconds: 0.005}`."""

    name: Literal["emulated"] = "emulated"
    seconds: PositiveFloat


def _describe_emulated(block: BlockSetting) -> BlockCost:
    return BlockCost(
        parameters=(Parameter("weight", (1,)),), forward_flops_per_row=0, kept_values_per_row=0, kept_bytes_per_row=0
    )


@register_block("emulated", describe=_describe_emulated, options=EmulatedOptions)
class EmulatedBlock(EmulatedLayer):
    """The sleeping layer, which hands its weight gradient to the schedule."""

    def __init__(self, layer: LayerDescription) -> None:
        options: dict[str, Any] = dict(layer.options)
        super().__init__(options["seconds"], current_pass)


def hidden_layers(model: Mapping[str, object], width: int) -> tuple[LayerDescription, ...]:
    """The hidden layers of a `model` section, all of one width, without input handling and head."""
    shape = DataShape(num_numeric=width, cardinalities=(), output_width=width, task="regression", num_rows=(1, 0, 0))
    return describe_layers(ModelConfig.model_validate(model), shape)[1:-1]
