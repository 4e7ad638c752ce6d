"""Rows of ingested files, or of npy files as they are: memory-mapped, read at random."""

import json
from pathlib import Path
from typing import NamedTuple

import numpy as np

from pipemlp.data.origins.source import Column
from pipemlp.data.shards.ingest import BLOCKS, DTYPES


class MappedBlock(NamedTuple):
    """Some columns of all rows: an array [rows, columns] on disk."""

    names: tuple[str, ...]
    array: np.ndarray


class ShardSource:
    """Rows in memory-mapped blocks; text is held as codes, so that reading makes no strings.

    Args:
        blocks: number blocks, and at most one of codes.
        columns: in the order of the file.
        texts: for each category column, the text of every code.
        files: name and number of rows of each file, in order.
        row_word: what a row is called in messages, and the number of the first.
        fingerprint: hash of the content.
        mixed: category columns of which some values spell numbers: (num_numbers, num_texts).
        dropped: columns that cannot be used, and why.
    """

    def __init__(
        self,
        blocks: tuple[MappedBlock, ...],
        columns: tuple[Column, ...],
        texts: dict[str, list[str]],
        files: list[tuple[str, int]],
        row_word: tuple[str, int],
        fingerprint: str,
        mixed: dict[str, tuple[int, int]] | None = None,
        dropped: dict[str, str] | None = None,
    ) -> None:
        self.columns = columns
        self.num_rows = sum(count for _, count in files)
        self.fingerprint = fingerprint
        self.texts = texts
        self.mixed = mixed or {}
        self.dropped = dropped or {}
        self.groups = _groups(columns)
        self._files = files
        self._row_word = row_word
        self._blocks = blocks
        self._positions = tuple({name: index for index, name in enumerate(block.names)} for block in blocks)

    def read(self, rows: np.ndarray) -> dict[str, np.ndarray]:
        """All columns at `rows`, text as str; see `Source`."""
        found = self.read_coded(rows, tuple(column.name for column in self.columns))
        for name, texts in self.texts.items():
            if name in found:
                found[name] = np.array([*texts, None], dtype=object)[found[name]]
        return found

    def read_coded(self, rows: np.ndarray, names: tuple[str, ...]) -> dict[str, np.ndarray]:
        """The named columns at `rows`: numbers, or codes (-1 where missing) for text."""
        found: dict[str, np.ndarray] = {}
        for block, positions in zip(self._blocks, self._positions, strict=True):
            wanted = [name for name in names if name in positions]
            if wanted:
                values = _read_rows(block.array, rows)
                found |= {name: values[:, positions[name]] for name in wanted}
        return {name: found[name] for name in names}

    def read_block(self, rows: np.ndarray, names: tuple[str, ...]) -> np.ndarray | None:
        """The named columns at `rows` side by side, [rows, names], if they lie in one block; None if they do not."""
        for block, positions in zip(self._blocks, self._positions, strict=True):
            if all(name in positions for name in names):
                values = _read_rows(block.array, rows)
                return values if names == block.names else values[:, [positions[name] for name in names]]
        return None

    def place(self, row: int) -> str:
        """Where a row is: `houses.csv: line 19`."""
        word, first = self._row_word
        for name, count in self._files:
            if row < count:
                return f"{name}: {word} {row + first}"
            row -= count
        raise IndexError(row)


def _read_rows(array: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """Rows of an array on disk, read in the order in which they lie there."""
    if len(rows) > 0 and bool((np.diff(rows) == 1).all()):
        return np.asarray(array[rows[0] : rows[-1] + 1])
    order = np.argsort(rows, kind="stable")
    place = np.empty_like(order)
    place[order] = np.arange(len(order))
    return np.asarray(array[rows[order]])[place]


def open_ingested(folder: Path, fingerprint: str) -> ShardSource:
    """The rows that `ingest` left in `folder`."""
    meta = json.loads((folder / "meta.json").read_text())
    num_rows = sum(count for _, count in meta["files"])
    stored = {name: where for name, where in meta["columns"].items() if name not in meta["dropped"]}
    blocks = []
    for block, file in BLOCKS.items():
        names = tuple(name for name, where in meta["columns"].items() if where == block)
        if names:
            array = np.memmap(folder / file, dtype=DTYPES[block], mode="r", shape=(num_rows, len(names)))
            blocks.append(MappedBlock(names, array))
    return ShardSource(
        blocks=tuple(blocks),
        columns=tuple(Column(name, "category" if where == "text" else "number") for name, where in stored.items()),
        texts={name: texts for name, texts in meta["texts"].items() if name in stored},
        files=[(name, count) for name, count in meta["files"]],
        row_word=(meta["row_word"][0], meta["row_word"][1]),
        fingerprint=fingerprint,
        mixed={name: (found["num_numbers"], found["num_texts"]) for name, found in meta["mixed"].items()},
        dropped=meta["dropped"],
    )


def _groups(columns: tuple[Column, ...]) -> dict[str, tuple[str, ...]]:
    """`y` -> `y.0`, `y.1`, ... where all columns of that form are there, as in an npz."""
    groups: dict[str, list[str]] = {}
    for column in columns:
        stem, dot, index = column.name.rpartition(".")
        if dot and index == str(len(groups.get(stem, []))):
            groups.setdefault(stem, []).append(column.name)
    return {stem: tuple(names) for stem, names in groups.items()}
