"""Which values dropout keeps: a stateless hash of (seed, layer, step, row in the global batch, column).

    row hash [n, 1] + key     \\
                               xor -> shift-xor, multiply, shift-xor, multiply -> at least the threshold?
    column hash [width] + key /

The key is 64 bits hashed from (seed, layer, step); rows and columns are hashed once and cached. All
tensor arithmetic is 32-bit integer and wraps, so that masks agree on every device, for every cut of the
rows. The mixer is Wellons' lowbias32 (https://nullprogram.com/blog/2018/07/31/) with PyTorch's shifts,
which repeat the sign bit, and without its last shift, which hardly moves a comparison with a threshold.
"""

from functools import cache, lru_cache

import torch
from torch import Tensor

_MASK32, _MASK64 = 2**32 - 1, 2**64 - 1
_ROUNDS = ((16, 0x21F0AAAD), (15, 0x735A2D97))
_LAST_SHIFT = 15
_ROW_SALT, _COLUMN_SALT = 0x2545F491, 0x9E3779B9
_SMALLEST_TABLE = 4096
_WINDOW_VALUES = 2**14
_windows: dict[tuple[int, int, torch.device], tuple[tuple[float, int, int, int], Tensor]] = {}
"""The last small mask of each layer, for more rows than were asked for: the next micro-batch finds its own in it.
For small masks the calls cost more than the numbers; autograd keeps a copy of the rows that it needs."""


def kept_values(
    shape: tuple[int, int], rate: float, *, seed: int, layer: int, step: int, first_row: int, device: torch.device
) -> Tensor:
    """Bool [n, width] on `device`: False where a value is dropped, with probability `rate`.

    Args:
        shape: (n, width).
        rate: in [0, 1).
        seed, layer, step: what the key is hashed from; non-negative.
        first_row: position of row 0 in the global batch.
    """
    rows, width = shape
    window = 1 << max(0, (_WINDOW_VALUES // width).bit_length() - 1)
    start = first_row // window * window
    if rows >= window or first_row + rows > start + window:
        return _drawn(shape, rate, (seed, layer, step), first_row, device)
    place, content = (layer, width, device), (rate, seed, step, start)
    known = _windows.get(place)
    if known is None or known[0] != content:
        known = _windows[place] = content, _drawn((window, width), rate, (seed, layer, step), start, device)
    return known[1][first_row - start : first_row - start + rows].clone()


def _drawn(
    shape: tuple[int, int], rate: float, numbers: tuple[int, int, int], first_row: int, device: torch.device
) -> Tensor:
    """The mask itself: seed, layer and step make the key, row and column the rest."""
    rows, width = shape
    key = _key(*numbers)
    row_hash = _row_hashes(_table_size(first_row + rows), device)[first_row : first_row + rows]
    bits = (row_hash + _signed(key)).bitwise_xor(_column_hashes(width, device) + _signed(key >> 32))
    shift_1, multiplier_1, shift_2, multiplier_2 = _mixer()
    bits.bitwise_xor_(bits >> shift_1).mul_(multiplier_1)
    bits.bitwise_xor_(bits >> shift_2).mul_(multiplier_2)
    return bits >= int(rate * 2**32) - 2**31


def _key(*numbers: int) -> int:
    """64 bits from any number of integers, by chained SplitMix64 (Steele, Lea and Flood, 2014)."""
    state = 0
    for number in numbers:
        state = (state ^ (number & _MASK64)) + 0x9E3779B97F4A7C15 & _MASK64
        state = (state ^ state >> 30) * 0xBF58476D1CE4E5B9 & _MASK64
        state = (state ^ state >> 27) * 0x94D049BB133111EB & _MASK64
        state ^= state >> 31
    return state


def _signed(word: int) -> int:
    """The low 32 bits as a signed number."""
    return (word + 2**31 & _MASK32) - 2**31


def _table_size(rows: int) -> int:
    """The next power of two, so that few tables are made."""
    return max(_SMALLEST_TABLE, 1 << (rows - 1).bit_length())


@cache
def _mixer() -> tuple[Tensor, ...]:
    """The shifts and multipliers as scalars: made once, for small masks cost little but the calls."""
    return tuple(torch.tensor(value, dtype=torch.int32, device="cpu") for pair in _ROUNDS for value in pair)


@lru_cache(maxsize=8)
def _row_hashes(size: int, device: torch.device) -> Tensor:
    return _hashes(size, _ROW_SALT).unsqueeze(1).to(device)


@lru_cache(maxsize=64)
def _column_hashes(width: int, device: torch.device) -> Tensor:
    return _hashes(width, _COLUMN_SALT).to(device)


def _hashes(size: int, salt: int) -> Tensor:
    """int32 [size]: a different, well mixed number for each of 0 .. size-1."""
    word = (torch.arange(size, dtype=torch.int64, device="cpu") + salt) & _MASK32
    for shift, multiplier in _ROUNDS:
        word = ((word ^ (word >> shift)) * multiplier) & _MASK32
    return (((word ^ (word >> _LAST_SHIFT)) + 2**31) & _MASK32).sub_(2**31).to(torch.int32)
