"""Which rows belong to training, validation and test: a pure function, with no stored shuffle.

One table is cut by a bijection keyed by `split_seed`: its first places are the test rows, the next the
validation rows, the rest is trained on, so that the test rows stay when the share for validation changes.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from pipemlp.config.data import Split as SplitConfig
from pipemlp.data.origins.source import SPLITS, Split
from pipemlp.data.sampler import Permutation
from pipemlp.data.table import BLOCK_ROWS, Table

_MOST_STORED = 2**18


@dataclass(frozen=True)
class Part:
    """A table and the places in it that each split takes.

    Args:
        table: the rows.
        kept: rows left over when some are dropped, ascending; None when all are kept.
        order: place -> index of a kept row; None leaves them as they are.
        ranges: split -> (first place, last place + 1).
    """

    table: Table
    kept: np.ndarray | None
    order: Permutation | None
    ranges: dict[Split, tuple[int, int]]

    @property
    def num_kept(self) -> int:
        """Rows that are not dropped."""
        return self.table.num_rows if self.kept is None else len(self.kept)

    def rows(self, places: np.ndarray) -> np.ndarray:
        """The table's rows at `places`, int64."""
        indices = self._all_indices[places] if self.num_kept <= _MOST_STORED else self._indices(places)
        return indices if self.kept is None else self.kept[indices].astype(np.int64)

    def _indices(self, places: np.ndarray) -> np.ndarray:
        return places if self.order is None else self.order.forward(places)

    @cached_property
    def _all_indices(self) -> np.ndarray:
        """The order of a small part, stored: for small batches, computing it would cost more than looking it up."""
        return self._indices(np.arange(self.num_kept, dtype=np.int64))

    def is_training(self, indices: np.ndarray) -> np.ndarray:
        """Whether kept rows, by index, are trained on: bool [n]."""
        first, last = self.ranges.get("train", (0, 0))
        places = indices if self.order is None else self.order.inverse(indices)
        return (places >= first) & (places < last)


class Splits:
    """All rows, by split and position."""

    def __init__(self, parts: tuple[Part, ...]) -> None:
        self.parts = parts
        self._part_of: dict[str, Part] = {split: part for part in parts for split in part.ranges}

    def num_rows(self, split: Split) -> int:
        """Rows of a split; 0 if it is empty."""
        part = self._part_of.get(split)
        return 0 if part is None else part.ranges[split][1] - part.ranges[split][0]

    def locate(self, split: str, positions: np.ndarray) -> tuple[Table, np.ndarray]:
        """The table of a split, and the table's rows at `positions` of the split."""
        if split not in self._part_of:
            raise IndexError(f"the split {split!r} has no rows; splits with rows: {', '.join(self._part_of)}")
        part = self._part_of[split]
        first, last = part.ranges[split]  # type: ignore[index]
        positions = np.asarray(positions, dtype=np.int64)
        if positions.size and (positions.min() < 0 or positions.max() >= last - first):
            raise IndexError(f"positions of the {split} split must be in 0..{last - first - 1}")
        return part.table, part.rows(positions + first)

    def blocks(self) -> Iterator[tuple[Table, np.ndarray, np.ndarray]]:
        """All kept rows in the order of the tables, a block at a time: (table, rows, is_training)."""
        for part in self.parts:
            if part.table.max_fit_rows is not None:
                count = min(self.num_rows("train"), part.table.max_fit_rows)
                table, rows = self.locate("train", np.arange(count))
                yield table, np.sort(rows), np.ones(count, dtype=bool)
                continue
            for start in range(0, part.num_kept, BLOCK_ROWS):
                indices = np.arange(start, min(start + BLOCK_ROWS, part.num_kept), dtype=np.int64)
                rows = indices if part.kept is None else part.kept[indices].astype(np.int64)
                yield part.table, rows, part.is_training(indices)


def split_table(table: Table, kept: np.ndarray | None, shares: SplitConfig, split_seed: int) -> Splits:
    """Cut one table: round(share x rows) rows each for test and validation, the rest for training."""
    num_rows = table.num_rows if kept is None else len(kept)
    num_test, num_validation = round(shares.test * num_rows), round(shares.validation * num_rows)
    ranges: dict[Split, tuple[int, int]] = {
        "train": (num_test + num_validation, num_rows),
        "validation": (num_test, num_test + num_validation),
        "test": (0, num_test),
    }
    return Splits((Part(table, kept, Permutation(num_rows, split_seed), ranges),))


def separate_tables(tables: dict[Split, Table], kept: dict[Split, np.ndarray | None]) -> Splits:
    """One table per split, each in its own order."""
    parts = []
    for split in SPLITS:
        if split in tables:
            rows = kept[split]
            count = tables[split].num_rows if rows is None else len(rows)
            parts.append(Part(tables[split], rows, None, {split: (0, count)}))
    return Splits(tuple(parts))
