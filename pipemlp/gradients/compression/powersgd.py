"""PowerSGD: the gradient of a weight as the product of two narrow matrices, found by one power iteration per step.

    M  rows x columns    a replica's gradient, and what it left out so far
    Q  columns x rank    where the last step ended, the same on all replicas

    P = sum of M Q               over the replicas; then its columns are made orthonormal
    Q = sum of M' P              over the replicas
    the sum of the M is about P Q'; a replica leaves out M - P (M' P)', its own part of what is lost

P and Q add up, so any pattern sums them: those of all matrices at once, and with the first what is not compressed
(Vogels, Karimireddy and Jaggi 2019, algorithms 1 and 2). As the columns of Q are made orthonormal too, before they are
used again, scales of gradients play no part, and directions much weaker than the first stay above rounding.
"""

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from pipemlp.gradients.compression.compression import Shape, Uncompressed
from pipemlp.gradients.compression.sender import forget_non_finite, nested
from pipemlp.gradients.pattern import Pattern
from pipemlp.planning.exchange import is_large


class PowerSgd:
    """Sums weights as products of rank `rank`, all else as it is.

    Every replica multiplies the same factors: all have the same bits if they compute on the same kind of device.

    Args:
        pattern: sums the factors.
        shapes: of the tensors.
        rank: columns of a factor.
        error_feedback: whether what is left out is kept for the next step.
    """

    def __init__(self, pattern: Pattern, shapes: Sequence[Shape], rank: int, *, error_feedback: bool) -> None:
        self._plain = Uncompressed(pattern)
        self._weights: dict[int, _Weight] = {}
        """By their place in the bucket."""
        for index, shape in enumerate(shapes):
            rows, columns = shape[0] if shape else 1, math.prod(shape[1:])
            if is_large(shape) and (rows + columns) * rank < rows * columns:
                self._weights[index] = _Weight((rows, columns), rank, index, error_feedback)

    def sum(self, views: Sequence[Tensor]) -> None:
        """See `Compression`."""
        pairs = [(weight, views[index].view(weight.shape)) for index, weight in self._weights.items()]
        left = [weight.take(view) for weight, view in pairs]
        self._plain.sum([*left, *(view for index, view in enumerate(views) if index not in self._weights)])
        right = [weight.right_of(factor) for (weight, _), factor in zip(pairs, left, strict=True)]
        self._plain.sum(right)
        for (weight, view), factor in zip(pairs, right, strict=True):
            weight.finish(factor, view)

    def state(self) -> dict[str, Tensor]:
        """See `Compression`."""
        return nested({str(index): weight.state() for index, weight in self._weights.items()})


class _Weight:
    """One matrix, through the steps of a sum."""

    def __init__(self, shape: tuple[int, int], rank: int, seed: int, error_feedback: bool) -> None:
        self.shape = shape
        self._start = _orthonormal(torch.randn(shape[1], rank, generator=torch.Generator().manual_seed(seed)))
        self._residual = torch.zeros(shape) if error_feedback else None
        self._matrix = self._left = self._start

    def take(self, view: Tensor) -> Tensor:
        """A step's gradient -> this replica's P."""
        if view.device != self._start.device:
            self._start = self._start.to(view.device)
            self._residual = None if self._residual is None else self._residual.to(view.device)
        self._matrix = view if self._residual is None else self._residual.add_(view)
        return _product(self._matrix, self._start)

    def right_of(self, left: Tensor) -> Tensor:
        """The sum of P -> this replica's Q; what that leaves out is kept."""
        self._left = _orthonormal(left)
        right = _product(self._matrix.t(), self._left)
        if self._residual is not None:
            self._residual.addmm_(self._left, right.t(), alpha=-1)
            forget_non_finite(self._residual)
        return right

    def finish(self, right: Tensor, view: Tensor) -> None:
        """The sum of Q -> the sum of the gradients; the next step starts from Q, unless it says nothing."""
        torch.mm(self._left, right.t(), out=view)
        if 0 < right.abs().sum() < math.inf:
            self._start.copy_(_orthonormal(right))

    def state(self) -> dict[str, Tensor]:
        """What the next step needs."""
        return {"start": self._start} | ({} if self._residual is None else {"residual": self._residual})


def _product(matrix: Tensor, narrow: Tensor) -> Tensor:
    """Of a matrix with a narrow one, which the libraries for CPUs multiply several times faster from the left."""
    return (narrow.t() @ matrix.t()).t()


def _orthonormal(matrix: Tensor) -> Tensor:
    """An orthonormal basis whose first n columns span those of the matrix, for every n; also if they are dependent."""
    basis: Tensor = torch.linalg.qr(matrix).Q
    return basis
