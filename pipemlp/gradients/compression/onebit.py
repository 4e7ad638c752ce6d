"""One bit per value: its sign; its magnitude is that of its row times that of its column.

    message   rows: magnitudes, float32 | columns: magnitudes, float32 | signs, eight to a byte, the first value in the
              lowest bit | zeros up to a multiple of 4

The gradient of a weight is a sum of products of errors, one per row, with activations, one per column; its magnitudes
are nearly such products, too. (Second moments as products of rows and columns are Adafactor's, Shazeer and Stern 2018;
signs with error feedback, each column with magnitudes of its own, are Seide et al.'s, 2014.) One magnitude for all or
for runs of values loses much more of small rows and columns, whose weights are then moved by noise.

The magnitudes of the columns are the best for those of the rows, in least squares: a message always leaves out less
than all, as error feedback needs (Karimireddy et al. 2019).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import cache

import torch
from torch import Tensor

from pipemlp.gradients.compression.codec import AnyVector, Codec, Piece, in_words
from pipemlp.gradients.compression.in_pieces import InPieces
from pipemlp.gradients.compression.int8 import Int8

FEWEST_ROWS = 8
"""Of fewer rows, the magnitudes of the columns would make up most of the message."""
COLUMNS = 256
"""Vectors that are no weights are cut into rows of so many values."""
GATHER = 0x0102040810204080
"""Eight bytes of 0 or 1, times this: the highest byte has the n-th of them as its n-th bit."""
TINY = torch.finfo(torch.float32).tiny


class OneBit:
    """Whole rows by their signs; where a piece begins or ends inside a row, that row in int8."""

    def message_bytes(self, num_values: int) -> int:
        """See `Codec`."""
        return _of_vector(num_values).message_bytes(num_values)

    def encode(self, values: Tensor) -> Tensor:
        """See `Codec`."""
        return _of_vector(len(values)).encode(values)

    def decode(self, message: Tensor, num_values: int) -> Tensor:
        """See `Codec`."""
        return _of_vector(num_values).decode(message, num_values)

    def for_sums(self, num_replicas: int) -> OneBit:
        """See `Codec`."""
        return self

    def for_pieces(self, pieces: Sequence[Piece]) -> Codec:
        """See `Codec`."""
        return InPieces([each for piece in pieces for each in _in_rows(piece)] or [(0, Int8())])


def _of_vector(num_values: int) -> Codec:
    return OneBit().for_pieces([Piece(num_values, COLUMNS)])


def _in_rows(piece: Piece) -> Iterator[tuple[int, Codec]]:
    head = min(-piece.start % piece.columns, piece.num_values)
    num_rows, tail = divmod(piece.num_values - head, piece.columns)
    if num_rows < FEWEST_ROWS:
        yield piece.num_values, Int8()
        return
    yield head, Int8()
    yield num_rows * piece.columns, Signs(piece.columns)
    yield tail, Int8()


class Signs(AnyVector):
    """Signs of the values of a matrix.

    Args:
        columns: values in a row.
    """

    def __init__(self, columns: int) -> None:
        self._columns = columns

    def message_bytes(self, num_values: int) -> int:
        """See `Codec`."""
        return 4 * (num_values // self._columns + self._columns) + in_words(-(-num_values // 8))

    def encode(self, values: Tensor) -> Tensor:
        """See `Codec`."""
        message = torch.zeros(self.message_bytes(len(values)), dtype=torch.uint8, device=values.device)
        of_rows, of_columns, signs = self._places(message, len(values))
        magnitudes = values.view(-1, self._columns).abs()
        torch.mean(magnitudes, 1, out=of_rows)
        of_rows.div_(of_rows.amax().clamp_min(TINY))  # so that squares neither vanish nor overflow
        torch.mv(magnitudes.t(), of_rows, out=of_columns)
        of_columns.div_(of_rows.dot(of_rows).clamp_min(TINY))
        bits = torch.zeros(8 * len(signs), dtype=torch.bool, device=values.device)
        torch.ge(values, 0, out=bits[: len(values)])
        signs.copy_(bits.view(torch.int64).mul(GATHER).bitwise_right_shift_(56).bitwise_and_(255))
        return message

    def decode(self, message: Tensor, num_values: int) -> Tensor:
        """See `Codec`."""
        of_rows, of_columns, signs = self._places(message, num_values)
        values = _eight_signs(message.device).index_select(0, signs.int()).flatten()[:num_values]
        values.view(-1, self._columns).mul_(of_rows.unsqueeze(1)).mul_(of_columns)
        return values

    def _places(self, message: Tensor, num_values: int) -> tuple[Tensor, Tensor, Tensor]:
        num_rows = num_values // self._columns
        factors = message[: 4 * (num_rows + self._columns)].view(torch.float32)
        return factors[:num_rows], factors[num_rows:], message[factors.nbytes :][: -(-num_values // 8)]


@cache
def _eight_signs(device: torch.device) -> Tensor:
    """What each byte stands for: [256, 8] of 1 and -1."""
    bits = torch.arange(256).unsqueeze(1) >> torch.arange(8) & 1
    return (2 * bits - 1).float().to(device)
