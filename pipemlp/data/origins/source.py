"""What a source of rows is: a number of rows, named columns, and random access to both."""

from dataclasses import dataclass
from typing import Literal, Protocol

import numpy as np

Kind = Literal["number", "category"]
Split = Literal["train", "validation", "test"]
SPLITS: tuple[Split, ...] = ("train", "validation", "test")


@dataclass(frozen=True)
class Column:
    """A column by name; `kind` is what its values are, not yet what they are used for."""

    name: str
    kind: Kind


class Source(Protocol):
    """Rows by position. A plug-in's source has these three; `read` must give the same rows every time.

    A number column is a float or integer array (NaN where missing), a category column an array of str
    (None where missing). Further attributes are used where a source has them: `fingerprint` (str, changes with
    the content), `groups` (name -> column names), `default_target` (column names), `class_labels`
    (all classes of the target), `max_fit_rows` (statistics are fitted on that many training rows
    at most), `place(row) -> str` (where a row is, for messages).
    """

    num_rows: int
    columns: tuple[Column, ...]

    def read(self, rows: np.ndarray) -> dict[str, np.ndarray]:
        """All columns at `rows` (int64 [n], any order, repeats allowed): name -> array [n]."""
        ...
