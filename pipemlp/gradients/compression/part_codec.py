"""The codec of a part of a bucket: each large tensor's piece by a codec of choice, everything else as it is.

bucket     | weight                | bias | weight                     | bias |
parts      |           part 0            |             part 1                |
messages    piece, coded  plain  coded    piece, coded                plain
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from pipemlp.gradients.compression.codec import Codec
from pipemlp.gradients.compression.compression import Shape, is_large
from pipemlp.gradients.compression.float32 import Float32
from pipemlp.gradients.parts import part_of


class PartCodec:
    """A codec of vectors of one length.

    Args:
        pieces: their sizes and codecs, in order.
    """

    def __init__(self, pieces: Sequence[tuple[int, Codec]]) -> None:
        self._pieces = pieces or [(0, Float32())]
        self._sizes = [size for size, _ in self._pieces]
        self._bytes = [codec.message_bytes(size) for size, codec in self._pieces]
        self.num_values = sum(self._sizes)
        """Of every vector."""
        self.num_bytes = sum(self._bytes)
        """Of every message."""

    def message_bytes(self, num_values: int) -> int:
        """See `Codec`; `num_values` is that of the part."""
        return self.num_bytes

    def encode(self, values: Tensor) -> Tensor:
        """See `Codec`."""
        pieces = zip(self._pieces, values.split(self._sizes), strict=True)
        return torch.cat([codec.encode(piece) for (_, codec), piece in pieces])

    def decode(self, message: Tensor, num_values: int) -> Tensor:
        """See `Codec`."""
        pieces = zip(self._pieces, message.split(self._bytes), strict=True)
        return torch.cat([codec.decode(piece, size) for (size, codec), piece in pieces])

    def for_sums(self, num_replicas: int) -> PartCodec:
        """See `Codec`."""
        return PartCodec([(size, codec.for_sums(num_replicas)) for size, codec in self._pieces])


def part_codecs(codec: Codec, shapes: Sequence[Shape], num_parts: int) -> list[PartCodec]:
    """The codec of each part (see `part_of`) of a bucket with tensors of these shapes."""
    num_values = sum(math.prod(shape) for shape in shapes)
    parts = [part_of(num_values, num_parts, index) for index in range(num_parts)]
    return [PartCodec([*_pieces(codec, shapes, part)]) for part in parts]


def _pieces(codec: Codec, shapes: Sequence[Shape], part: slice) -> Iterator[tuple[int, Codec]]:
    start = 0
    for shape in shapes:
        end = start + math.prod(shape)
        size = min(end, part.stop) - max(start, part.start)
        if size > 0:
            yield size, codec if is_large(shape) else Float32()
        start = end
