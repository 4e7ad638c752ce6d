"""Layers as the executor runs them, one kind at a time, with made-up inputs: what a profile measures."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

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

MOST_KEPT_BYTES = 2**29
"""Of the copies of kinds that are not measured right now."""
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


class LayerBench:
    """Copies of a layer, each with its own weights, and the sums of their gradients.

    Args:
        making: what everything is made with.
        layers: the copies; or one layer with the input handling before it, which then counts as one.
        is_last: whether the loss comes behind.
    """

    def __init__(self, making: Making, layers: Sequence[LayerDescription], *, is_last: bool) -> None:
        self._making, self._layers, self._is_last = making, layers, is_last
        self._modules = [build_layer(layer, making.seed, making.device, making.dtype) for layer in layers]
        parameters = [parameter for module in self._modules for parameter in module.parameters()]
        self.num_bytes = sum(parameter.numel() * (parameter.element_size() + 4) for parameter in parameters)
        flat = torch.empty(sum(map(Tensor.numel, parameters)), device=making.device)
        self._sums = GradientSums(flat, [parameters], split_parameters(nn.ModuleList(self._modules)))
        self._sums.begin()

    def units(self, rows: int, *, again: bool, chained: bool) -> list["LayerUnit"]:
        """All layers as one unit if `chained`, or if they begin with input handling; else each alone."""
        recompute: Recompute = "elementwise" if again else 0
        whole = chained or not self._layers[0].parameters
        runs = [slice(None)] if whole else [slice(index, index + 1) for index in range(len(self._layers))]
        return [
            LayerUnit(
                self._making, self._layers[run], self._modules[run], self._sums, rows, recompute, is_last=self._is_last
            )
            for run in runs
        ]

    def count_bytes(self, rows: int) -> tuple[int, int]:
        """What a layer keeps from its forward to its input gradient, its input included, and what from there on."""
        return self.units(rows, again=False, chained=False)[0].count_bytes()


class Benches:
    """The copies of every kind of layer, built when they are asked for, and kept as far as they take little memory.

    Args:
        making: what everything is made with.
        layers: of the whole model.
        firsts: the first layer of each kind.
        num_copies: of each kind.
    """

    def __init__(
        self, making: Making, layers: Sequence[LayerDescription], firsts: Sequence[int], num_copies: Sequence[int]
    ) -> None:
        self._making, self._layers, self._firsts, self._num_copies = making, layers, firsts, num_copies
        self._kept: dict[int, LayerBench] = {}

    def of(self, kind: int) -> LayerBench:
        """The copies of a kind."""
        if kind not in self._kept:
            while self._kept and sum(bench.num_bytes for bench in self._kept.values()) > MOST_KEPT_BYTES:
                del self._kept[next(iter(self._kept))]
            first = self._firsts[kind]
            layer = self._layers[first]
            copies = [replace(layer, index=first + copy) for copy in range(self._num_copies[kind])]
            before = self._layers[:first] if kind == 0 else ()
            self._kept[kind] = LayerBench(self._making, [*before, *copies], is_last=first == len(self._layers) - 1)
        return self._kept[kind]

    def let_go(self) -> None:
        """Of all of them."""
        self._kept.clear()


class LayerUnit:
    """Layers behind one another, ready to go forwards and backwards."""

    def __init__(
        self,
        making: Making,
        layers: Sequence[LayerDescription],
        modules: Sequence[nn.Module],
        sums: GradientSums,
        rows: int,
        recompute: Recompute,
        *,
        is_last: bool,
    ) -> None:
        self._making, self._rows, self._number, self._sums = making, rows, 0, sums
        self._stage = VirtualStage(modules, recompute, making.loss if is_last else None)
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

    def count_bytes(self) -> tuple[int, int]:
        """What it keeps from its forward to its input gradient, its input included, and what from there on."""
        entering = self._entering
        with StorageCount() as live:
            if isinstance(entering, Tensor):
                self._entering = entering.clone()
            passes = self.forward()
            self._entering = entering
            kept = live.num_bytes
            self.input_gradient(passes)
            pending = live.num_bytes
            self.weight_gradient(passes)
        return kept, pending


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


def made_up_batch(
    making: Making, layers: Sequence[LayerDescription], rows: int, num_micro_batches: int
) -> list[MicroBatch]:
    """Micro-batches as a loader gives them, for any rank: inputs for the first layer, labels for the last."""
    inputs, labels = _inputs(making, layers[0], rows), _labels(making, layers[-1], rows)
    return [(inputs, labels)] * num_micro_batches
