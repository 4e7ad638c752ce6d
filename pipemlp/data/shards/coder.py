"""Codes for texts, given out in the order in which they first appear."""

from typing import Any

import numpy as np

from pipemlp.data.files.arrow_values import number_of_text

MOST_TEXTS = 1_000_000


class Coder:
    """Text -> code, growing as it reads; -1 stands for missing."""

    def __init__(self) -> None:
        self.values: list[str] = []
        self.num_numbers = 0
        self.num_texts = 0
        self._codes: dict[str, int] = {}
        self._is_number: list[bool] = []

    def encode_arrow(self, texts: Any) -> np.ndarray:
        """int32 codes [n] of a pyarrow string column; counts how many of its values spell a number."""
        encoded = texts.dictionary_encode()
        local = [self._code(value) for value in encoded.dictionary.to_pylist()]
        indices = encoded.indices.fill_null(-1).to_numpy(zero_copy_only=False)
        counts = np.bincount(indices[indices >= 0], minlength=len(local))
        numbers = sum(int(count) for code, count in zip(local, counts, strict=True) if self._is_number[code])
        self.num_numbers += numbers
        self.num_texts += int(counts.sum()) - numbers
        result: np.ndarray = np.array([*local, -1], dtype=np.int32)[indices]
        return result

    def encode(self, values: np.ndarray) -> np.ndarray:
        """int64 codes [n] of an array of texts, None where missing."""
        codes = (-1 if value is None or value != value else self._code(str(value)) for value in values.tolist())
        return np.fromiter(codes, dtype=np.int64, count=len(values))

    def _code(self, value: str) -> int:
        code = self._codes.get(value)
        if code is None:
            code = self._codes[value] = len(self.values)
            self.values.append(value)
            self._is_number.append(number_of_text(value) is not None)
        return code
