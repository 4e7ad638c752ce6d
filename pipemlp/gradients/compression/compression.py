"""What a compression is to the exchange of a bucket, and what all of them share: when and of what there is none."""

from collections.abc import Sequence
from typing import Protocol

import torch
from torch import Tensor

from pipemlp.gradients.compression.sender import nested
from pipemlp.gradients.compression.vectors import as_one_vector
from pipemlp.gradients.pattern import Pattern
from pipemlp.planning.exchange import is_large

Shape = Sequence[int]


class Compression(Protocol):
    """Sums the tensors of a bucket over the replicas; made once per bucket, called once per step by one thread."""

    def sum(self, views: Sequence[Tensor]) -> None:
        """In place: about the sum over the replicas of every tensor, the same bits on every replica.

        A value that is not finite on one replica makes some that are not finite on all.

        Args:
            views: float32, shaped as the parameters are.

        Raises:
            ExchangeError: if a replica is gone or does not answer.
        """

    def state(self) -> dict[str, Tensor]:
        """What a checkpoint must keep for this replica: the tensors themselves, not copies."""


class Uncompressed:
    """Sums of everything by the pattern."""

    def __init__(self, pattern: Pattern) -> None:
        self._pattern = pattern

    def sum(self, views: Sequence[Tensor]) -> None:
        """See `Compression`; also of other types."""
        if views:
            with as_one_vector(views) as vector:
                self._pattern.sum(vector)

    def state(self) -> dict[str, Tensor]:
        """See `Compression`; there is nothing to keep."""
        return {}


class LargeOnly:
    """Small tensors and vectors are summed as they are, together; the others by a compression.

    Args:
        compression: of the others.
        plain: of the small ones.
    """

    def __init__(self, compression: Compression, plain: Compression) -> None:
        self._compression, self._plain = compression, plain

    def sum(self, views: Sequence[Tensor]) -> None:
        """See `Compression`."""
        self._compression.sum([view for view in views if is_large(view.shape)])
        self._plain.sum([view for view in views if not is_large(view.shape)])

    def state(self) -> dict[str, Tensor]:
        """See `Compression`."""
        return self._compression.state()


class WarmUp:
    """The first sums are plain, the others compressed.

    The first gradients are the largest, and the second moments of Adam are made of them (Tang et al. 2021).

    Args:
        compression: of the others.
        plain: of the first ones.
        num_steps: how many are plain.
    """

    def __init__(self, compression: Compression, plain: Compression, num_steps: int) -> None:
        self._compression, self._plain = compression, plain
        self._steps_left = torch.tensor(num_steps)

    def sum(self, views: Sequence[Tensor]) -> None:
        """See `Compression`."""
        if self._steps_left > 0:
            self._steps_left -= 1
            self._plain.sum(views)
        else:
            self._compression.sum(views)

    def state(self) -> dict[str, Tensor]:
        """See `Compression`."""
        return nested({"warm_up": {"steps_left": self._steps_left}, "after": self._compression.state()})
