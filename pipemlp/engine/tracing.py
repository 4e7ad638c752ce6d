"""Where a number first is not finite: a step done again with an eye on every layer, without changing a weight."""

import math
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial

from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle


@dataclass(frozen=True, order=True)
class Finding:
    """Something that is not finite; what comes first is smallest.

    Args:
        micro_batch: in which it was found.
        order: 0 outputs, 1 the loss, 2 gradients of outputs, 3 gradients of parameters.
        depth: in that order: the layer in the forward, minus the layer in the backward.
        replica: that has found it.
        stage: of that rank.
    """

    micro_batch: int
    order: int
    depth: int
    replica: int
    stage: int

    def __str__(self) -> str:
        layer = abs(self.depth)
        what = (
            f"the output of layer {layer}",
            "the loss",
            f"the gradient of the output of layer {layer}",
            f"the gradient of the parameters of layer {layer}",
        )[self.order]
        return f"{what} is not finite (micro-batch {self.micro_batch}, replica {self.replica}, stage {self.stage})"


class Tracing:
    """What is not finite on one rank; takes the place of its sums of gradients meanwhile.

    Args:
        layers: of the rank, by index.
        micro_batch: which one is computed just now.
        replica, stage: of the rank.
    """

    def __init__(
        self, layers: Mapping[int, nn.Module], micro_batch: Callable[[], int], replica: int, stage: int
    ) -> None:
        self._layers, self._micro_batch, self._replica, self._stage = layers, micro_batch, replica, stage
        self._owners = {parameter: index for index, layer in layers.items() for parameter in layer.parameters()}
        self.findings: set[Finding] = set()

    def _look(self, value: Tensor | None, order: int, depth: int) -> None:
        if value is not None and not value.isfinite().all():
            self.note(self._micro_batch(), order, depth)

    def note(self, micro_batch: int, order: int, depth: int) -> None:
        """Something is not finite."""
        self.findings.add(Finding(micro_batch, order, depth, self._replica, self._stage))

    @contextmanager
    def watching(self) -> Iterator[None]:
        """While it lasts, every output of a layer and its gradient are looked at."""
        handles: list[RemovableHandle] = []
        for index, layer in self._layers.items():
            handles.append(layer.register_forward_hook(partial(self._watch_output, index)))
            # of products None comes here, and the gradient by `add_product` and the like
            handles += [each.register_hook(partial(self._look, order=3, depth=-index)) for each in layer.parameters()]
        try:
            yield
        finally:
            for handle in handles:
                handle.remove()

    def _watch_output(self, index: int, layer: nn.Module, inputs: object, output: Tensor) -> None:
        self._look(output, 0, index)
        if output.requires_grad:
            output.register_hook(lambda gradient: self._look(gradient, 2, -index))

    def watch_losses(self, losses: Mapping[int, Tensor]) -> None:
        """Those of the micro-batches."""
        for micro_batch, loss in losses.items():
            if not math.isfinite(float(loss)):
                self.note(micro_batch, 1, 0)

    def add_product(self, weight: nn.Parameter, gradient: Tensor, x: Tensor) -> None:
        """See `GradientSums`."""
        product = gradient.flatten(end_dim=-2).t() @ x.flatten(end_dim=-2)
        self._look(product, 3, -self._owners[weight])

    def add_column_sums(self, bias: nn.Parameter, gradient: Tensor) -> None:
        """See `GradientSums`."""
        self._look(gradient.sum(tuple(range(gradient.dim() - 1))), 3, -self._owners[bias])

    def add_rows(self, table: nn.Parameter, indices: Tensor, gradient: Tensor) -> None:
        """See `GradientSums`."""
        self._look(gradient, 3, -self._owners[table])
