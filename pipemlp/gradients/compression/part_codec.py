"""The codec of a part of a bucket: large tensors by a codec of choice, everything else as it is.

bucket     | weight                | bias | weight                     | bias |
parts      |           part 0            |             part 1                |
messages     pieces of weights, coded;     pieces of weights, coded;
             then the bias in float32      then the bias in float32
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from pipemlp.gradients.compression.codec import Codec, Piece
from pipemlp.gradients.compression.compression import Shape
from pipemlp.gradients.parts import part_of
from pipemlp.planning.exchange import is_large


class PartCodec:
    """A codec of vectors of one length.

    Args:
        large: the codec of the large values, which are taken together.
        pieces: the vector, piece by piece, each with whether it is large.
    """

    def __init__(self, large: Codec, pieces: Sequence[tuple[bool, Piece]]) -> None:
        self._large, self._pieces = large, pieces
        self._sizes = [piece.num_values for _, piece in pieces]
        self._num_large = sum(piece.num_values for is_coded, piece in pieces if is_coded)
        self._large_bytes = large.message_bytes(self._num_large)
        self.num_values = sum(self._sizes)
        """Of every vector."""
        self.num_bytes = self._large_bytes + 4 * (self.num_values - self._num_large)
        """Of every message."""

    def message_bytes(self, num_values: int) -> int:
        """See `Codec`."""
        return self.num_bytes

    def encode(self, values: Tensor) -> Tensor:
        """See `Codec`."""
        large, small = [values[:0]], [values[:0]]
        for (is_coded, _), piece in zip(self._pieces, values.split(self._sizes), strict=True):
            (large if is_coded else small).append(piece)
        return torch.cat([self._large.encode(torch.cat(large)), torch.cat(small).view(torch.uint8)])

    def decode(self, message: Tensor, num_values: int) -> Tensor:
        """See `Codec`."""
        large = self._large.decode(message[: self._large_bytes], self._num_large)
        small = message[self._large_bytes :].view(torch.float32)
        values = [large[:0]]
        for is_coded, piece in self._pieces:
            values.append((large if is_coded else small)[: piece.num_values])
            if is_coded:
                large = large[piece.num_values :]
            else:
                small = small[piece.num_values :]
        return torch.cat(values)

    def for_sums(self, num_replicas: int) -> PartCodec:
        """See `Codec`."""
        return PartCodec(self._large.for_sums(num_replicas), self._pieces)

    def for_pieces(self, pieces: Sequence[Piece]) -> PartCodec:
        """See `Codec`; it knows its pieces."""
        return self


def part_codec(codec: Codec, shapes: Sequence[Shape], num_parts: int, index: int) -> PartCodec:
    """The codec of a part (see `part_of`) of a bucket with tensors of these shapes.

    Args:
        codec: of large tensors.
        shapes: of the tensors.
        num_parts: of the bucket.
        index: of the part.
    """
    pieces = list(_pieces(shapes, num_parts, index))
    return PartCodec(codec.for_pieces([piece for is_coded, piece in pieces if is_coded]), pieces)


def _pieces(shapes: Sequence[Shape], num_parts: int, index: int) -> Iterator[tuple[bool, Piece]]:
    part = part_of(sum(math.prod(shape) for shape in shapes), num_parts, index)
    begin = 0
    for shape in shapes:
        end = begin + math.prod(shape)
        first, last = max(begin, part.start), min(end, part.stop)
        if first < last:
            columns = math.prod(shape[1:])
            yield is_large(shape), Piece(last - first, columns, (first - begin) % columns)
        begin = end
