"""What a pass over all rows tells about each used column, before anything is decided from its values."""

from dataclasses import dataclass, field

import numpy as np

from pipemlp.data.shards.cache import Progress
from pipemlp.data.table import Table

MOST_DISTINCT = 20


@dataclass
class Facts:
    """Counts over the rows of one table; `distinct` holds the whole numbers, None once there are more than 20."""

    num_rows: int = 0
    num_missing: int = 0
    num_infinite: int = 0
    num_negative: int = 0
    is_whole: bool = True
    largest: float = float("-inf")
    distinct: set[int] | None = field(default_factory=set)

    def add_numbers(self, values: np.ndarray) -> None:
        """Count another block, float64 [n]."""
        self.num_rows += len(values)
        finite = values[np.isfinite(values)]
        self.num_missing += int(np.isnan(values).sum())
        self.num_infinite += int(np.isinf(values).sum())
        self.num_negative += int((finite < 0).sum())
        if finite.size:
            self.largest = max(self.largest, float(finite.max()))
        if self.is_whole:
            self.is_whole = bool((finite == np.floor(finite)).all())
        if not self.is_whole:
            self.distinct = None
        elif self.distinct is not None:
            self.distinct |= {int(value) for value in np.unique(finite)[: MOST_DISTINCT + 1]}
            self.distinct = self.distinct if len(self.distinct) <= MOST_DISTINCT else None

    def add_codes(self, codes: np.ndarray) -> None:
        """Count another block of a category column."""
        self.num_rows += len(codes)
        self.num_missing += int((codes < 0).sum())


def gather_facts(table: Table, names: tuple[str, ...], progress: Progress | None = None) -> dict[str, Facts]:
    """Facts of the named columns over all rows, or over the first ones of a source that is sampled."""
    facts = {name: Facts() for name in names}
    if table.max_fit_rows is not None:
        rows = np.arange(min(table.num_rows, table.max_fit_rows), dtype=np.int64)
        blocks = iter([(rows, table.read(rows, names))])
    else:
        blocks = table.blocks(names)
    for rows, columns in blocks:
        for name, values in columns.items():
            add = facts[name].add_codes if table.kinds[name] == "category" else facts[name].add_numbers
            add(values)
        if progress:
            progress("checking values", float(rows[-1] + 1) / table.num_rows)
    return facts
