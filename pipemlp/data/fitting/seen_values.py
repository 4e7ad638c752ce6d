"""Which labels or categories the training rows have, and which others only the rest has."""

from typing import NamedTuple

import numpy as np

from pipemlp.data.table import Table, Value


class Place(NamedTuple):
    """A row of a table."""

    table: Table
    row: int

    def __str__(self) -> str:
        return self.table.place(self.row)


class SeenValues:
    """The distinct values of one column: how often in the training rows, and where first."""

    def __init__(self, name: str, is_text: bool) -> None:
        self.name = name
        self.counts: dict[Value, int] = {}
        self.first: dict[Value, Place] = {}
        self.held_out: dict[Value, Place] = {}
        self._is_text = is_text

    def add(self, table: Table, rows: np.ndarray, keys: np.ndarray, is_training: np.ndarray) -> None:
        """Count a block: codes of text (-1 missing) or float64 (NaN missing) at `rows` of `table`."""
        present = keys >= 0 if table.kinds[self.name] == "category" else ~np.isnan(keys)
        trained, first, counts = np.unique(keys[present & is_training], return_index=True, return_counts=True)
        where = rows[present & is_training][first]
        for value, row, count in zip(self._values(table, trained), where, counts, strict=True):
            self.counts[value] = self.counts.get(value, 0) + int(count)
            self.first.setdefault(value, Place(table, int(row)))
        others, first = np.unique(keys[present & ~is_training], return_index=True)
        where = rows[present & ~is_training][first]
        for value, row in zip(self._values(table, others), where, strict=True):
            self.held_out.setdefault(value, Place(table, int(row)))

    @property
    def values(self) -> tuple[Value, ...]:
        """The training rows' values, sorted."""
        return tuple(sorted(self.counts, key=lambda value: (isinstance(value, str), value)))

    @property
    def unseen(self) -> dict[Value, Place]:
        """Values that the training rows do not have, and the first row that has them."""
        return {value: place for value, place in self.held_out.items() if value not in self.counts}

    def _values(self, table: Table, keys: np.ndarray) -> list[Value]:
        if table.kinds[self.name] == "category":
            texts = table.texts(self.name)
            return [texts[int(key)] for key in keys]
        return [str(int(key)) if self._is_text else int(key) for key in keys]
