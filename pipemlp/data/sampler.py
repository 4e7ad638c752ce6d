"""Sample order as a pure function of (seed, epoch, step): a keyed bijection of the rows, with no stored shuffle.

    position ──► balanced Feistel network on 2^(2h) >= num_rows values ──► below num_rows? ──► row
                       ▲                                                        │ no
                       └────────────────────── once more ───────────────────────┘   (cycle walking)

The network permutes a power-of-four domain; feeding values outside the rows back in restricts it to a
bijection of the rows (Black and Rogaway 2002, "Ciphers with arbitrary finite domains").
"""

from functools import lru_cache

import numpy as np

from pipemlp.data.origins.mixing import derive_key, mix

_NUM_ROUNDS = 8
_WINDOW_SLOTS = 8192


class Permutation:
    """A bijection of 0..num_rows-1, computed element by element: `forward` and its `inverse`.

    Args:
        num_rows: size of the set.
        key: any integers; each combination gives another order.
    """

    def __init__(self, num_rows: int, *key: int) -> None:
        self.num_rows = num_rows
        self._half_bits = max(3, (max(num_rows - 1, 1).bit_length() + 1) // 2)
        base = derive_key(num_rows, *key)
        self._round_keys = [derive_key(base, index) for index in range(_NUM_ROUNDS)]

    def forward(self, positions: np.ndarray) -> np.ndarray:
        """Where each position goes; int64, same shape."""
        return self._walk(positions, self._round_keys, inverse=False)

    def inverse(self, rows: np.ndarray) -> np.ndarray:
        """Which position each row came from; int64, same shape."""
        return self._walk(rows, self._round_keys[::-1], inverse=True)

    def _walk(self, values: np.ndarray, keys: list[int], inverse: bool) -> np.ndarray:
        values = np.asarray(values, dtype=np.int64)
        if values.size and (values.min() < 0 or values.max() >= self.num_rows):
            raise IndexError(f"positions must be in 0..{self.num_rows - 1}")
        if self.num_rows <= 1:
            return values.copy()
        result = self._network(values.astype(np.uint64).ravel(), keys, inverse)
        outside = np.flatnonzero(result >= np.uint64(self.num_rows))
        while outside.size:
            result[outside] = self._network(result[outside], keys, inverse)
            outside = outside[result[outside] >= np.uint64(self.num_rows)]
        return result.astype(np.int64).reshape(values.shape)

    def _network(self, values: np.ndarray, keys: list[int], inverse: bool) -> np.ndarray:
        bits = np.uint64(self._half_bits)
        mask = np.uint64((1 << self._half_bits) - 1)
        left, right = values >> bits, values & mask
        for key in keys:
            if inverse:
                left, right = right ^ (mix(left ^ np.uint64(key)) & mask), left
            else:
                left, right = right, left ^ (mix(right ^ np.uint64(key)) & mask)
        return (left << bits) | right


def steps_per_epoch(num_rows: int, global_batch_size: int) -> int:
    """Optimizer steps in one pass over the rows; the last batch may be shorter."""
    return -(-num_rows // global_batch_size)


def batch_positions(num_rows: int, seed: int, epoch: int, step_in_epoch: int, global_batch_size: int) -> np.ndarray:
    """Positions within the training split of one global batch: int64 [<= global_batch_size].

    Every epoch visits each row exactly once, in an order of its own; the last batch is shorter when
    the rows do not divide evenly.

    Raises:
        IndexError: if the epoch has no such step.
    """
    if not 0 <= step_in_epoch < steps_per_epoch(num_rows, global_batch_size):
        raise IndexError(f"step {step_in_epoch} of {steps_per_epoch(num_rows, global_batch_size)} steps in an epoch")
    start = step_in_epoch * global_batch_size
    stop = min(start + global_batch_size, num_rows)
    windows = [
        _window(num_rows, seed, epoch, index) for index in range(start // _WINDOW_SLOTS, -(-stop // _WINDOW_SLOTS))
    ]
    offset = start // _WINDOW_SLOTS * _WINDOW_SLOTS
    return np.concatenate(windows)[start - offset : stop - offset]


@lru_cache(maxsize=4)
def _window(num_rows: int, seed: int, epoch: int, index: int) -> np.ndarray:
    """Where a stretch of slots goes: for small batches, the calls would cost more than the numbers."""
    start = index * _WINDOW_SLOTS
    slots = np.arange(start, min(start + _WINDOW_SLOTS, num_rows), dtype=np.int64)
    return Permutation(num_rows, seed, epoch).forward(slots)
