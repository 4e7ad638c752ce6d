"""A run of layers, and what it keeps of a micro-batch between the forward and the backward.

recompute none          keep autograd's graph
recompute N             keep the input of every N layers; run them again, group by group, in the backward
recompute elementwise   keep the input and the result of every product; run the rest again in the backward
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.graph import GradientEdge, get_gradient_edge

from pipemlp.engine.private.run_backward import run_backward
from pipemlp.model.dropout import DropoutKey
from pipemlp.model.weight_gradients import GradientSums, Pass
from pipemlp.planning.recompute import Recompute, group_bounds

LossFunction = Callable[[Tensor, tuple[Tensor, Tensor]], Tensor]
Labels = tuple[Tensor, Tensor]


@dataclass(slots=True)
class _Segment:
    """Layers `start` to `stop` with the tensor that entered them; `end` is the graph's root, where it was kept."""

    start: int
    stop: int
    entered: Any
    end: GradientEdge | None = None


class VirtualStage:
    """A run of layers on this rank.

    Args:
        layers: called in order as `layer(x, dropout_key)`.
        recompute: what the backward computes again.
        loss: `loss(outputs, labels)` on the last virtual stage.
    """

    def __init__(self, layers: Sequence[nn.Module], recompute: Recompute, loss: LossFunction | None) -> None:
        self._layers = layers
        self.recompute = recompute
        self.loss = loss
        self._bounds = group_bounds([any(True for _ in layer.parameters()) for layer in layers], recompute)

    def forward(
        self, x: Any, key: DropoutKey, labels: Labels | None, sums: GradientSums
    ) -> tuple[Tensor, "MicroBatchPass"]:
        """The output, or the loss where there is one, and what the backward needs.

        Args:
            x: [n, width], which is not used elsewhere; the first virtual stage takes (numeric, categorical).
        """
        kept = MicroBatchPass(self, key, labels, sums)
        return kept.run_forward(x, self._bounds), kept

    @torch.no_grad()
    def predict(self, x: Any) -> Tensor:
        """The output, keeping nothing."""
        return self.run(x, 0, len(self._layers), None)

    def run(self, x: Any, start: int, stop: int, key: DropoutKey | None) -> Tensor:
        """Layers `start` to `stop`."""
        for layer in self._layers[start:stop]:
            x = layer(x, key)
        return x

    def end_of(self, stop: int, x: Tensor, labels: Labels | None) -> Tensor:
        """The loss after the last layer of the last virtual stage."""
        return self.loss(x, labels) if self.loss is not None and labels is not None and stop == len(self._layers) else x


class MicroBatchPass:
    """What one micro-batch left on a virtual stage: first for its `B` or `I`, then for its `W`."""

    __slots__ = ("_key", "_labels", "_products", "_segments", "_stage")

    def __init__(self, stage: VirtualStage, key: DropoutKey, labels: Labels | None, sums: GradientSums) -> None:
        self._stage = stage
        self._key = key
        self._labels = labels
        self._products = Pass(sums, keeps_products=stage.recompute == "elementwise")
        self._segments: list[_Segment] = []

    def run_forward(self, x: Any, bounds: Sequence[tuple[int, int]]) -> Tensor:
        """Run all segments, each keeping what the recomputation says."""
        for start, stop in bounds:
            segment = _Segment(start, stop, x)
            self._segments.append(segment)
            if self._stage.recompute == 0:
                x = self._with_graph(segment)
            else:
                with torch.no_grad(), self._products:
                    x = self._stage.end_of(stop, self._stage.run(x, start, stop, self._key), self._labels)
        return x

    def _with_graph(self, segment: _Segment) -> Tensor:
        """Run a segment under autograd; its root is noted, its result left without a graph."""
        if isinstance(segment.entered, Tensor):
            segment.entered = segment.entered.detach().requires_grad_()
        with self._products:
            result = self._stage.run(segment.entered, segment.start, segment.stop, self._key)
            result = self._stage.end_of(segment.stop, result, self._labels)
        segment.end = get_gradient_edge(result)
        return result.detach()

    def backward(self, gradient: Tensor, *, defer: bool) -> Tensor | None:
        """The gradient of the input, if it is a tensor; weight gradients now, or with `finish`.

        Args:
            gradient: of the output [n, width], or of the loss, a scalar.
        """
        upstream: Tensor | None = gradient
        self._products.defers = defer
        while self._segments:
            segment = self._segments.pop()
            if segment.end is None:
                self._with_graph(segment)
            assert segment.end is not None and upstream is not None
            run_backward(segment.end, upstream)
            upstream = None
            if isinstance(segment.entered, Tensor):  # which may wait for a weight gradient, but not with its own
                upstream, segment.entered.grad = segment.entered.grad, None
        return upstream

    def finish(self) -> None:
        """The weight gradients that were put off."""
        self._products.finish()
