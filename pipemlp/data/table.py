"""One view of every source: numbers as float64, text as codes, and where a row is."""

import hashlib
from collections.abc import Callable, Iterator, Mapping

import numpy as np

from pipemlp.config.errors import DataError
from pipemlp.data.files.arrow_values import number_of_text
from pipemlp.data.origins.source import Column, Kind, Source
from pipemlp.data.origins.teacher import TeacherSource
from pipemlp.data.shards.coder import Coder
from pipemlp.data.shards.mapped import ShardSource

BLOCK_ROWS = 65_536
Value = str | int


class Table:
    """A source with the optional parts filled in; only the columns asked for are read where the source can."""

    def __init__(self, source: Source) -> None:
        self.source = source
        self.num_rows = int(source.num_rows)
        self.kinds: dict[str, Kind] = {column.name: column.kind for column in source.columns}
        self.groups: dict[str, tuple[str, ...]] = getattr(source, "groups", {})
        self.default_target: tuple[str, ...] | None = getattr(source, "default_target", None)
        self.class_labels: tuple[Value, ...] | None = getattr(source, "class_labels", None)
        self.max_fit_rows: int | None = getattr(source, "max_fit_rows", None)
        self.mixed: dict[str, tuple[int, int]] = getattr(source, "mixed", {})
        self.dropped: dict[str, str] = getattr(source, "dropped", {})
        self.is_cached = isinstance(source, ShardSource)
        self.fingerprint: str = getattr(source, "fingerprint", "") or _described(source)
        self.lookups: dict[str, np.ndarray] = {}
        self._coders: dict[str, Coder] = {}
        self._parsed: dict[str, np.ndarray] = {}

    def read(self, rows: np.ndarray, names: tuple[str, ...]) -> dict[str, np.ndarray]:
        """The named columns at `rows`: float64 for numbers (NaN missing), int64 codes for text (-1 missing)."""
        source = self.source
        if isinstance(source, ShardSource):
            found = source.read_coded(rows, names)
        elif isinstance(source, TeacherSource):
            found = source.read_columns(rows, names)
        else:
            found = self._checked(source.read(rows), len(rows), names)
            for name in names:
                if self._is_text(name):
                    found[name] = self._coders.setdefault(name, Coder()).encode(found[name])
        return {name: self._converted(name, found[name]) for name in names}

    def read_block(self, rows: np.ndarray, names: tuple[str, ...]) -> np.ndarray | None:
        """Columns of numbers at `rows` side by side: float64 [rows, names]; None where they do not lie so."""
        if not isinstance(self.source, ShardSource) or not names or any(name in self._parsed for name in names):
            return None
        block = self.source.read_block(rows, names)
        return None if block is None else block.astype(np.float64, copy=False)

    def texts(self, name: str) -> list[str]:
        """The text of every code of a category column, as far as it has been read."""
        if isinstance(self.source, ShardSource):
            return self.source.texts[name]
        return self._coders.setdefault(name, Coder()).values

    def read_texts(self, name: str) -> list[str]:
        """The text of every code of a category column, after reading all of it if that has not been done."""
        if not self.is_cached:
            for _ in self.blocks((name,)):
                pass
        return self.texts(name)

    def treat_as_numbers(self, name: str) -> None:
        """Read a category column as the numbers that its texts spell; NaN where they spell none."""
        self.kinds[name] = "number"
        self._parsed[name] = np.zeros(0)

    def place(self, row: int) -> str:
        """Where a row is, for messages: `houses.csv: line 19`, or `row 18`."""
        place: Callable[[int], str] | None = getattr(self.source, "place", None)
        return place(int(row)) if place else f"row {int(row) + 1}"

    def blocks(self, names: tuple[str, ...]) -> Iterator[tuple[np.ndarray, dict[str, np.ndarray]]]:
        """All rows in order, a block at a time: (rows, columns)."""
        for start in range(0, self.num_rows, BLOCK_ROWS):
            rows = np.arange(start, min(start + BLOCK_ROWS, self.num_rows), dtype=np.int64)
            yield rows, self.read(rows, names)

    def first_row(self, name: str, test: Callable[[np.ndarray], np.ndarray]) -> int:
        """The first row whose value passes `test` (values [n] -> bool [n]); there must be one."""
        for rows, columns in self.blocks((name,)):
            hits = np.flatnonzero(test(columns[name]))
            if hits.size:
                return int(rows[hits[0]])
        raise LookupError(name)

    def read_value(self, row: int, name: str) -> float:
        """One number."""
        return float(self.read(np.array([row]), (name,))[name][0])

    def _is_text(self, name: str) -> bool:
        return self.kinds[name] == "category" or name in self._parsed

    def _converted(self, name: str, values: np.ndarray) -> np.ndarray:
        if name in self._parsed:
            values = self._numbers_of(name)[values]
        return values.astype(np.int64 if self.kinds[name] == "category" else np.float64, copy=False)

    def _numbers_of(self, name: str) -> np.ndarray:
        """The number of every code, and NaN last, where -1 finds it."""
        texts = self.texts(name)
        if len(self._parsed[name]) != len(texts) + 1:
            numbers = (number_of_text(text) for text in texts)
            self._parsed[name] = np.array([np.nan if number is None else number for number in numbers] + [np.nan])
        return self._parsed[name]

    def _checked(self, found: dict[str, np.ndarray], num_rows: int, names: tuple[str, ...]) -> dict[str, np.ndarray]:
        """What a plug-in's source gave, held against what it promised."""
        for name in names:
            if name not in found:
                raise DataError(f"data.source: read() gives no column {name!r}, which `columns` names")
            if len(found[name]) != num_rows:
                raise DataError(f"data.source: read() of {num_rows} rows gives {len(found[name])} for column {name!r}")
        return {name: np.asarray(found[name]) for name in names}


def _described(source: Source) -> str:
    columns: tuple[Column, ...] = tuple(source.columns)
    text = repr((type(source).__qualname__, source.num_rows, [(column.name, column.kind) for column in columns]))
    return hashlib.blake2b(text.encode(), digest_size=16).hexdigest()


def stacked(columns: Mapping[str, np.ndarray], names: tuple[str, ...], num_rows: int) -> np.ndarray:
    """The named columns side by side: float64 [num_rows, len(names)]."""
    if not names:
        return np.empty((num_rows, 0))
    return np.stack([columns[name] for name in names], axis=1).astype(np.float64, copy=False)
