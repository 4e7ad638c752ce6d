"""Vectors of one length in pieces, each with a codec of its own; the message is theirs, one after the other."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from pipemlp.gradients.compression.codec import Codec, Piece


class InPieces:
    """A codec of such vectors.

    Args:
        pieces: sizes and codecs, in order; at least one.
    """

    def __init__(self, pieces: Sequence[tuple[int, Codec]]) -> None:
        self._pieces = pieces
        self._sizes = [size for size, _ in pieces]
        self._bytes = [codec.message_bytes(size) for size, codec in pieces]

    def message_bytes(self, num_values: int) -> int:
        """See `Codec`."""
        return sum(self._bytes)

    def encode(self, values: Tensor) -> Tensor:
        """See `Codec`."""
        pieces = zip(self._pieces, values.split(self._sizes), strict=True)
        return torch.cat([codec.encode(piece) for (_, codec), piece in pieces])

    def decode(self, message: Tensor, num_values: int) -> Tensor:
        """See `Codec`."""
        pieces = zip(self._pieces, message.split(self._bytes), strict=True)
        return torch.cat([codec.decode(piece, size) for (size, codec), piece in pieces])

    def for_sums(self, num_replicas: int) -> InPieces:
        """See `Codec`."""
        return InPieces([(size, codec.for_sums(num_replicas)) for size, codec in self._pieces])

    def for_pieces(self, pieces: Sequence[Piece]) -> InPieces:
        """See `Codec`; it knows its pieces."""
        return self
