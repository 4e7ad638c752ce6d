"""The values that a rank keeps the truth of, with what its optimizer knows about them: what a checkpoint is made of.

    flat   [ layer 3 weight 100..200 | layer 3 bias 0..10 | layer 4 weight 0..40 ]     one tensor of the optimizer
    state  exp_avg, exp_avg_sq: as long as flat;  step: a single number
    run    layer 3, "weight", start 100, length 100, offset 0                         where a stretch of it belongs

Layers and names address the values, never offsets, so that another cut or number of replicas finds its own.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

VALUE = "value"
"""The name of the weights themselves beside those of the optimizer's tensors."""


@dataclass(frozen=True)
class Run:
    """A stretch of a flattened parameter in a flat tensor.

    Args:
        layer: index in the model.
        name: of the parameter in its layer.
        start, length: of the flattened parameter.
        offset: in the flat tensor.
    """

    layer: int
    name: str
    start: int
    length: int
    offset: int


@dataclass(frozen=True)
class Piece:
    """Live tensors about a stretch of a parameter: 1-D of its length, or single numbers (0-D)."""

    layer: int
    name: str
    start: int
    tensors: dict[str, Tensor]


class Source(Protocol):
    """Where saved values come from."""

    def kinds(self, layer: int, name: str) -> tuple[str, ...]:
        """What there is about a parameter: `value`, and names of the optimizer's tensors."""

    def read(self, layer: int, name: str, kind: str, start: int, length: int) -> Tensor:
        """A stretch of it, 1-D; a single number as it is, 0-D.

        Raises:
            ModelFileError: if it is not there.
        """


@dataclass(frozen=True)
class Share:
    """One tensor of an optimizer.

    Args:
        values: of any shape; the float32 copies, where parameters are of another type.
        state: the optimizer's tensors about it, by name; the very dictionary of the optimizer.
        runs: what it consists of; padding belongs to none.
    """

    values: Tensor
    state: dict[str, Tensor]
    runs: Sequence[Run]

    def pieces(self) -> Iterator[Piece]:
        """All of it, as it is now."""
        flat = {VALUE: self.values.detach().reshape(-1)}
        numbers = {}
        for kind, tensor in self.state.items():
            if not isinstance(tensor, Tensor):  # SGD without momentum keeps a None
                continue
            if tensor.dim() == 0:
                numbers[kind] = tensor
            else:
                flat[kind] = tensor.reshape(-1)
        for run in self.runs:
            own = {kind: tensor[run.offset : run.offset + run.length] for kind, tensor in flat.items()}
            yield Piece(run.layer, run.name, run.start, own | numbers)

    @torch.no_grad()
    def load(self, source: Source) -> None:
        """Take the values from a source, and the optimizer's tensors, which are made where there was no step yet.

        Raises:
            ModelFileError: if something is not there.
        """
        flat = self.values.detach().reshape(-1)
        for run in self.runs:
            for kind in source.kinds(run.layer, run.name):
                saved = source.read(run.layer, run.name, kind, run.start, run.length)
                if kind == VALUE:
                    flat[run.offset : run.offset + run.length].copy_(saved)
                elif saved.dim() == 0:
                    self.state[kind] = saved.clone()
                else:
                    tensor = self.state.get(kind)
                    if tensor is None:
                        tensor = self.state[kind] = torch.zeros_like(self.values)
                    tensor.view(-1)[run.offset : run.offset + run.length].copy_(saved)


@dataclass(frozen=True)
class Named:
    """A parameter with its place in the model."""

    layer: int
    name: str
    num_values: int


def runs_between(parameters: Sequence[Named], start: int, stop: int) -> list[Run]:
    """What of parameters that stand one after the other falls into start..stop - 1, with offsets from `start`."""
    found, begin = [], 0
    for parameter in parameters:
        end = begin + parameter.num_values
        first, last = max(begin, start), min(end, stop)
        if first < last:
            found.append(Run(parameter.layer, parameter.name, first - begin, last - first, first - start))
        begin = end
    return found
