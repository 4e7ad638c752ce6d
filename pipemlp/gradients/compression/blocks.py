"""A vector in blocks, each with a scale of its own; the last one may be shorter."""

from collections.abc import Iterator

from torch import Tensor

from pipemlp.planning.exchange import BLOCK_VALUES


def num_blocks(num_values: int) -> int:
    """How many blocks a vector has."""
    return -(-num_values // BLOCK_VALUES)


def in_blocks(values: Tensor) -> Iterator[tuple[slice, Tensor]]:
    """The whole blocks as the rows of a matrix, then what is left as one row; each with the range of its blocks."""
    whole = len(values) // BLOCK_VALUES
    if whole:
        yield slice(0, whole), values[: whole * BLOCK_VALUES].view(whole, BLOCK_VALUES)
    if len(values) > whole * BLOCK_VALUES:
        yield slice(whole, whole + 1), values[whole * BLOCK_VALUES :].view(1, -1)
