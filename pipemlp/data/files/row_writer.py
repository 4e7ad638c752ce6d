"""Writes columns to a file batch by batch; the file appears under its name only when it is whole."""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import IO, Any

import numpy as np

from pipemlp.config.errors import ConfigError, DataError

_ENDINGS = (".csv", ".parquet", ".npy")
_NPY_HEADER_BYTES = 128


class RowWriter:
    """A csv, parquet or npy file (one float32 array [rows, columns]) being written.

    Used as a context manager, it closes at the end, and discards what it wrote if an error comes through.

    Raises:
        ConfigError: unknown ending, or no such folder.
    """

    def __init__(self, path: Path, columns: Sequence[str]) -> None:
        if path.suffix.lower() not in _ENDINGS:
            allowed = ", ".join(_ENDINGS)
            raise ConfigError(f"output: {path.name}: unknown ending {path.suffix or '(none)'}; use {allowed}")
        if not path.absolute().parent.is_dir():
            raise ConfigError(f"output: {path}: no such folder {path.absolute().parent}")
        if path.is_dir():
            raise ConfigError(f"output: {path}: is a directory; name a file")
        self.num_rows = 0
        self._path = path
        self._columns = tuple(columns)
        self._partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
        self._writer: Any = None
        self._file: IO[bytes] = self._partial.open("wb")
        if path.suffix.lower() == ".npy":
            self._file.write(_npy_header(0, len(self._columns)))

    def write(self, columns: Mapping[str, np.ndarray]) -> None:
        """Append rows; every column given at the start, each [n].

        Raises:
            DataError: text for an npy file.
        """
        arrays = [np.asarray(columns[name]) for name in self._columns]
        self.num_rows += len(arrays[0])
        if self._path.suffix.lower() == ".npy":
            for name, array in zip(self._columns, arrays, strict=True):
                if array.dtype.kind not in "biuf":
                    raise DataError(f"{self._path.name}: column {name!r} is text; npy holds numbers, use csv")
            self._file.write(np.stack(arrays, axis=1).astype("<f4").tobytes())
        else:
            self._write_table(arrays)

    def close(self) -> None:
        """Finish the file and give it its name."""
        if self._path.suffix.lower() == ".npy":
            self._file.seek(0)
            self._file.write(_npy_header(self.num_rows, len(self._columns)))
        elif self._writer is None:
            self._write_table([np.zeros(0) for _ in self._columns])
        if self._writer is not None:
            self._writer.close()
        self._file.close()
        self._partial.replace(self._path)

    def discard(self) -> None:
        """Remove what was written so far."""
        if self._writer is not None:
            self._writer.close()
        self._file.close()
        self._partial.unlink(missing_ok=True)

    def __enter__(self) -> "RowWriter":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None:
            self.close()
        else:
            self.discard()

    def _write_table(self, arrays: list[np.ndarray]) -> None:
        import pyarrow as pa
        from pyarrow import csv, parquet

        table = pa.table(dict(zip(self._columns, map(_arrow, arrays), strict=True)))
        if self._writer is None:
            open_writer = csv.CSVWriter if self._path.suffix.lower() == ".csv" else parquet.ParquetWriter
            self._schema = table.schema
            self._writer = open_writer(self._file, table.schema)
        self._writer.write_table(table.cast(self._schema))


def _arrow(array: np.ndarray) -> Any:
    import pyarrow as pa

    if array.dtype.kind in "OU":
        return pa.array([None if value is None else str(value) for value in array.tolist()], pa.string())
    return pa.array(np.ascontiguousarray(array))


def _npy_header(num_rows: int, num_columns: int) -> bytes:
    """The header of a float32 array, of one length for any number of rows (numpy.lib.format, version 1.0)."""
    content = f"{{'descr': '<f4', 'fortran_order': False, 'shape': ({num_rows}, {num_columns}), }}"
    padded = content.ljust(_NPY_HEADER_BYTES - 11) + "\n"
    return b"\x93NUMPY\x01\x00" + (len(padded)).to_bytes(2, "little") + padded.encode("latin1")
