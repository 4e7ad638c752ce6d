"""Synthetic rows of any number, each computed when asked for: a random network labels random inputs.

(seed, row, column) ──► 64-bit hash ──► two uniforms ──► Box-Muller normal = x[row, column]
y = W2 tanh(W1 x), rows of W2 scaled to a standard deviation of about 1, plus noise; a class is the argmax
"""

import hashlib

import numpy as np

from pipemlp.config.data import Teacher
from pipemlp.data.origins.mixing import derive_key, mix
from pipemlp.data.origins.source import Column

_ROW_STEP = np.uint64(0x9E3779B97F4A7C15)
_COLUMN_STEP = np.uint64(0xD1B54A32D192ED03)
_TANH_STD = 0.628  # of tanh(z), z standard normal
_BLOCK_ROWS = 256
_FIT_ROWS = (1024, 65_536)  # standard normal inputs need few rows to be known
_FIT_VALUES = 2**22
_INPUTS, _NOISE, _FIRST, _SECOND = range(4)


def hashed_normal(key: int, rows: np.ndarray, num_columns: int) -> np.ndarray:
    """Standard normal float64 [len(rows), num_columns]; a value depends on key, row and column only."""
    row_part = mix(rows.astype(np.uint64) * _ROW_STEP + np.uint64(key))
    column_part = mix(np.arange(1, num_columns + 1, dtype=np.uint64) * _COLUMN_STEP)
    bits = mix(row_part[:, None] ^ column_part[None, :])
    radius = ((bits >> np.uint64(32)).astype(np.float64) + 0.5) * 2.0**-32
    angle = (bits & np.uint64(0xFFFFFFFF)).astype(np.float64) * (2.0 * np.pi * 2.0**-32)
    return np.sqrt(-2.0 * np.log(radius)) * np.cos(angle)


def _rowwise_product(rows: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """`rows @ weights` in blocks of one shape, so that a row's bits do not depend on what is read with it."""
    padded = np.zeros((-(-len(rows) // _BLOCK_ROWS) * _BLOCK_ROWS, rows.shape[1]))
    padded[: len(rows)] = rows
    blocks = [padded[start : start + _BLOCK_ROWS] @ weights for start in range(0, len(padded), _BLOCK_ROWS)]
    return np.concatenate(blocks)[: len(rows)] if blocks else np.zeros((0, weights.shape[1]))


class TeacherSource:
    """Rows of a `teacher`: inputs `x0`, `x1`, ... and the target `y` (`y0`, `y1`, ... for several outputs)."""

    def __init__(self, options: Teacher) -> None:
        self.num_rows = options.rows
        self.max_fit_rows = max(_FIT_ROWS[0], min(_FIT_ROWS[1], _FIT_VALUES // options.inputs))
        self._options = options
        self._inputs = tuple(f"x{index}" for index in range(options.inputs))
        single = options.classes is not None or options.outputs == 1
        self.default_target = ("y",) if single else tuple(f"y{index}" for index in range(options.outputs))
        self.class_labels = None if options.classes is None else tuple(range(options.classes))
        self.columns = tuple(Column(name, "number") for name in self._inputs + self.default_target)
        self.fingerprint = hashlib.blake2b(options.model_dump_json().encode(), digest_size=16).hexdigest()
        self._first, self._second = self._weights()

    def _weights(self) -> tuple[np.ndarray | None, np.ndarray]:
        options = self._options
        width = options.classes or options.outputs
        inner = options.hidden or options.inputs
        second = hashed_normal(derive_key(options.seed, _SECOND), np.arange(inner), width)
        second /= np.linalg.norm(second, axis=0)
        if not options.hidden:
            return None, second
        first = hashed_normal(derive_key(options.seed, _FIRST), np.arange(options.inputs), options.hidden)
        return first / np.linalg.norm(first, axis=0), second / _TANH_STD

    def read(self, rows: np.ndarray) -> dict[str, np.ndarray]:
        """All columns at `rows`; see `Source`."""
        return self.read_columns(rows, tuple(column.name for column in self.columns))

    def read_columns(self, rows: np.ndarray, names: tuple[str, ...]) -> dict[str, np.ndarray]:
        """The named columns only; the targets cost a pass through the teacher."""
        inputs = hashed_normal(derive_key(self._options.seed, _INPUTS), rows, self._options.inputs)
        found = {name: inputs[:, index] for index, name in enumerate(self._inputs)}
        if any(name in self.default_target for name in names):
            targets = self._targets(rows, inputs)
            found |= {name: targets[:, index] for index, name in enumerate(self.default_target)}
        return {name: found[name] for name in names}

    def _targets(self, rows: np.ndarray, inputs: np.ndarray) -> np.ndarray:
        hidden = inputs if self._first is None else np.tanh(_rowwise_product(inputs, self._first))
        outputs = _rowwise_product(hidden, self._second)
        noise = hashed_normal(derive_key(self._options.seed, _NOISE), rows, outputs.shape[1])
        outputs = outputs + self._options.noise * noise
        if self._options.classes is None:
            return outputs
        classes: np.ndarray = np.argmax(outputs, axis=1)
        return classes[:, None]
