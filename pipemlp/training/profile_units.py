"""Layers as the executor runs them, one kind at a time, with made-up inputs: what a profile measures."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from pipemlp.engine.gradient_sums import GradientSums
from pipemlp.engine.pipeline import MicroBatch
from pipemlp.engine.virtual_stage import Labels, LossFunction, MicroBatchPass, VirtualStage
from pipemlp.model.build import build_layer
from pipemlp.model.dropout import DropoutKey
from pipemlp.model.weight_gradients import split_parameters
from pipemlp.planning.layers import LayerDescription
from pipemlp.planning.recompute import Recompute
from pipemlp.planning.shapes import Task
from pipemlp.profiling.storage_count import StorageCount

MICRO_BATCHES_PER_STEP = 8
"""After so many the masks of dropout are those of another step, as in a run."""


@dataclass(frozen=True)
class Making:
    """What all units are made with.

    Args:
        device, dtype: of weights and tensors.
        loss: of the last layer.
        task: what its labels look like.
        seed: of weights, inputs and dropout.
    """

    device: torch.device
    dtype: torch.dtype
    loss: LossFunction
    task: Task
    seed: int


class LayerUnit:
    """A run of layers, ready to go forwards and backwards.

    Args:
        layers: one layer; the first one with the input handling before it.
        rows: of the micro-batch.
        recompute: what the backward computes again.
        is_last: whether the loss comes behind.
    """

    def __init__(
        self, making: Making, layers: Sequence[LayerDescription], rows: int, recompute: Recompute, *, is_last: bool
    ) -> None:
        self._making, self._rows, self._number = making, rows, 0
        modules = [build_layer(layer, making.seed, making.device, making.dtype) for layer in layers]
        self._stage = VirtualStage(modules, recompute, making.loss if is_last else None)
        parameters = [parameter for module in modules for parameter in module.parameters()]
        flat = torch.empty(sum(map(Tensor.numel, parameters)), device=making.device)
        self._sums = GradientSums(flat, [parameters], split_parameters(nn.ModuleList(modules)))
        self._sums.begin()
        self._entering = _inputs(making, layers[0], rows)
        self._labels = _labels(making, layers[-1], rows) if is_last else None
        shape = () if is_last else (rows, layers[-1].output_width)
        self._gradient = torch.ones(shape, device=making.device, dtype=torch.float32 if is_last else making.dtype)

    def forward(self) -> MicroBatchPass:
        """A micro-batch; what it leaves for the gradients."""
        step, index = divmod(self._number, MICRO_BATCHES_PER_STEP)
        self._number += 1
        key = DropoutKey(self._making.seed, step, index * self._rows)
        with torch.enable_grad():
            return self._stage.forward(self._entering, key, self._labels, self._sums)[1]

    def input_gradient(self, kept: MicroBatchPass) -> None:
        """Of its input; what the weights' gradients need is put by."""
        with torch.enable_grad():
            kept.backward(self._gradient, defer=True)

    def weight_gradient(self, kept: MicroBatchPass) -> None:
        """Of its weights."""
        kept.finish()


def _inputs(making: Making, layer: LayerDescription, rows: int) -> object:
    generator = torch.Generator().manual_seed(making.seed)
    values = torch.randn(rows, layer.input_width, generator=generator).to(making.device)
    if layer.kind != "input":
        return values.to(making.dtype)
    codes = torch.zeros(rows, len(_cardinalities(layer)), dtype=torch.int64)
    for column, count in enumerate(_cardinalities(layer)):
        codes[:, column] = torch.randint(count, (rows,), generator=generator)
    return values, codes.to(making.device)


def _cardinalities(layer: LayerDescription) -> Sequence[int]:
    found = dict(layer.options).get("cardinalities", ())
    assert isinstance(found, tuple)
    return found


def _labels(making: Making, layer: LayerDescription, rows: int) -> Labels:
    if making.task == "classification":
        target = torch.arange(rows, device=making.device) % layer.output_width
    else:
        target = torch.zeros(rows, layer.output_width, device=making.device)
    return target, torch.full((rows,), 1.0 / rows, device=making.device)


def count_bytes(unit: LayerUnit) -> tuple[int, int]:
    """What a unit keeps from its forward to its input gradient, its input included, and what from there on."""
    entering = unit._entering
    with StorageCount() as live:
        if isinstance(entering, Tensor):
            unit._entering = entering.clone()
        passes = unit.forward()
        unit._entering = entering
        kept = live.num_bytes
        unit.input_gradient(passes)
        pending = live.num_bytes
        unit.weight_gradient(passes)
    return kept, pending


def made_up_batch(
    making: Making, layers: Sequence[LayerDescription], rows: int, num_micro_batches: int
) -> list[MicroBatch]:
    """Micro-batches as a loader gives them, for any rank: inputs for the first layer, labels for the last."""
    inputs, labels = _inputs(making, layers[0], rows), _labels(making, layers[-1], rows)
    return [(inputs, labels)] * num_micro_batches
