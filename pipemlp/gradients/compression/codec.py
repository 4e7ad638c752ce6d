"""A codec makes messages of vectors, each by itself; what a message leaves out is another's concern (see sender.py).

All values are float32. The message of so many values has always as many bytes, so that a receiver knows what to expect,
and these are a multiple of 4, so that messages one after the other can be read in place. The same values make the same
bits. A value that is not finite stays so: at least one value of the decoded message is not finite either.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol, Self

from torch import Tensor


@dataclass(frozen=True)
class Piece:
    """Values that follow each other in a weight.

    Args:
        num_values: how many there are.
        columns: of the weight, whose rows follow each other.
        start: where in its row the first of them is.
    """

    num_values: int
    columns: int
    start: int = 0


class Codec(Protocol):
    """How a vector is written down in fewer bytes."""

    def message_bytes(self, num_values: int) -> int:
        """The size of the message of a vector; a multiple of 4, and 0 for no values."""

    def encode(self, values: Tensor) -> Tensor:
        """float32 [n], contiguous -> uint8 [message_bytes(n)], in memory of its own."""

    def decode(self, message: Tensor, num_values: int) -> Tensor:
        """uint8 [message_bytes(n)], at a multiple of 4 bytes -> float32 [n], in memory of its own."""

    def for_sums(self, num_replicas: int) -> Codec:
        """For the sum of so many decoded messages."""

    def for_pieces(self, pieces: Sequence[Piece]) -> Codec:
        """For vectors that are made of pieces of weights, one after the other."""


class AnyVector:
    """A codec to which all vectors are alike."""

    def for_sums(self, num_replicas: int) -> Self:
        """See `Codec`."""
        return self

    def for_pieces(self, pieces: Sequence[Piece]) -> Self:
        """See `Codec`."""
        return self


def in_words(num_bytes: int) -> int:
    """Rounded up to a multiple of 4."""
    return -(-num_bytes // 4) * 4
