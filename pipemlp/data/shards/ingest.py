"""Reads files once, in batches, into blocks that can be memory-mapped.

    batches of columns ──► numbers ──► numbers.f4, numbers.f8   [rows, columns] raw, row by row
                      └──► texts   ──► codes.i4                 [rows, columns] raw, -1 where missing
                                       meta.json: columns, files and the texts of every code

A CSV column is taken for numbers until a text is met in it; then, and only then, the files are read
a second time, with all such columns as text.
"""

import json
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from pipemlp.config.errors import DataError
from pipemlp.data.files.arrow_values import StoredAs, as_numbers, as_text, parse_numbers, stored_as
from pipemlp.data.files.batch import Batch
from pipemlp.data.files.reading import BATCH_ROWS, read_batches
from pipemlp.data.problems import listing
from pipemlp.data.shards.cache import Progress
from pipemlp.data.shards.coder import MOST_TEXTS, Coder

FORMAT_VERSION = 1
BLOCKS: dict[str, str] = {"f4": "numbers.f4", "f8": "numbers.f8", "text": "codes.i4"}
DTYPES: dict[str, str] = {"f4": "<f4", "f8": "<f8", "text": "<i4"}


@dataclass
class _Layout:
    """Which block each column goes to; a column may turn into text while reading."""

    stored: dict[str, StoredAs]
    is_csv: bool
    turned: set[str] = field(default_factory=set)
    dropped: dict[str, str] = field(default_factory=dict)

    def names(self, block: str) -> list[str]:
        return [name for name, where in self.stored.items() if where == block]


def ingest(
    kind: str,
    files: tuple[Path, ...],
    delimiter: str,
    folder: Path,
    batch_rows: int = BATCH_ROWS,
    progress: Progress | None = None,
) -> None:
    """Write the blocks and `meta.json` of the files' rows into `folder`, which exists and is empty.

    Raises:
        DataError: a file cannot be read, holds no rows, or has other columns than the first.
    """
    texts: set[str] = set()
    while True:
        layout, coders, num_rows = _read_all(kind, files, delimiter, folder, batch_rows, texts, progress)
        if not layout.turned:
            break
        texts |= layout.turned
    mixed = {
        name: {"num_texts": coder.num_texts, "num_numbers": coder.num_numbers}
        for name, coder in coders.items()
        if coder.num_numbers and coder.num_texts
    }
    meta = {
        "columns": layout.stored,
        "files": [[file.name, count] for file, count in zip(files, num_rows, strict=True)],
        "row_word": ["line", 2] if kind == "csv" else ["row", 1],
        "texts": {name: coders[name].values for name in layout.names("text")},
        "mixed": mixed,
        "dropped": layout.dropped,
    }
    (folder / "meta.json").write_text(json.dumps(meta))


def _read_all(
    kind: str,
    files: tuple[Path, ...],
    delimiter: str,
    folder: Path,
    batch_rows: int,
    texts: set[str],
    progress: Progress | None,
) -> tuple[_Layout, dict[str, Coder], list[int]]:
    layout: _Layout | None = None
    coders: dict[str, Coder] = {}
    num_rows = []
    outputs = {block: (folder / name).open("wb") for block, name in BLOCKS.items()}
    try:
        for position, file in enumerate(files):
            count = 0
            for batch in read_batches(kind, file, delimiter, batch_rows):
                layout = layout or _first_layout(batch, kind == "csv", texts)
                _check_columns(layout, batch, file, files[0])
                for block, values in _blocks(layout, coders, batch, file).items():
                    values.tofile(outputs[block])
                count += batch.num_rows
                if progress:
                    progress(f"reading {file.name}", (position + batch.fraction) / len(files))
            if count == 0:
                raise DataError(f"{file.name}: no rows in it")
            num_rows.append(count)
    finally:
        for output in outputs.values():
            output.close()
    assert layout is not None
    return layout, coders, num_rows


def _first_layout(batch: Batch, is_csv: bool, texts: set[str]) -> _Layout:
    stored: dict[str, StoredAs] = {}
    dropped = {}
    for name, column in batch.columns.items():
        if is_csv:
            stored[name] = "text" if name in texts or parse_numbers(column) is None else "f8"
        else:
            stored[name] = stored_as(column)
        if stored[name] == "unusable":
            dropped[name] = f"values of type {column.type} are neither numbers nor text"
    return _Layout(stored, is_csv, dropped=dropped)


def _check_columns(layout: _Layout, batch: Batch, file: Path, first: Path) -> None:
    if batch.columns.keys() != layout.stored.keys():
        missing = [name for name in layout.stored if name not in batch.columns]
        extra = [name for name in batch.columns if name not in layout.stored]
        raise DataError(f"{file.name}: {different_columns(missing, extra, first.name)}")


def different_columns(missing: Iterable[str], extra: Iterable[str], other: str) -> str:
    """How the columns of one file differ from those of another."""
    parts = [f"lacks the columns {listing(missing)}"] if missing else []
    parts += [f"has the further columns {listing(extra)}"] if extra else []
    return f"{' and '.join(parts)}; all files need the columns of {other}"


def _blocks(layout: _Layout, coders: dict[str, Coder], batch: Batch, file: Path) -> dict[str, np.ndarray]:
    """The batch as raw blocks; the layout notes columns that turn out to hold text."""
    numbers: dict[str, np.ndarray] = {}
    for name in layout.names("f4") + layout.names("f8"):
        column = batch.columns[name]
        parsed = parse_numbers(column) if layout.is_csv else _typed_numbers(column, name, file)
        if parsed is None:
            layout.turned.add(name)
            parsed = np.zeros(batch.num_rows)
        numbers[name] = parsed
    blocks = {}
    for block in ("f4", "f8"):
        names = layout.names(block)
        if names:
            blocks[block] = np.stack([numbers[name] for name in names], axis=1).astype(DTYPES[block])
    if names := layout.names("text"):
        codes = [_codes(layout, coders, name, batch.columns[name], file) for name in names]
        blocks["text"] = np.stack(codes, axis=1).astype(DTYPES["text"])
    return blocks


def _typed_numbers(column: Any, name: str, file: Path) -> np.ndarray:
    if stored_as(column) not in ("f4", "f8"):
        raise DataError(f"{file.name}: column {name!r} holds {column.type}, but numbers in the files before")
    return as_numbers(column)


def _codes(layout: _Layout, coders: dict[str, Coder], name: str, column: Any, file: Path) -> np.ndarray:
    """int32 codes; a column with more texts than can be held in memory is given up."""
    if not layout.is_csv and stored_as(column) != "text":
        raise DataError(f"{file.name}: column {name!r} holds {column.type}, but text in the files before")
    coder = coders.setdefault(name, Coder())
    if len(coder.values) > MOST_TEXTS:
        layout.dropped[name] = f"it has more than {MOST_TEXTS:,} different texts"
        return np.full(len(column), -1, dtype=np.int32)
    return coder.encode_arrow(as_text(column))
