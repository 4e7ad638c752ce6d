"""npy and npz files as batches of columns; members of an npz are read as streams, never whole."""

import zipfile
import zlib
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import IO, Any

import numpy as np

from pipemlp.config.errors import DataError
from pipemlp.data.files.batch import Batch, first_line

_KINDS_OF_NUMBERS = "biuf"


def open_npy(path: Path) -> np.ndarray:
    """A two-dimensional array of numbers, memory-mapped.

    Raises:
        DataError: empty, damaged, of other dimensions, or of a type that holds no plain numbers.
    """
    if path.stat().st_size == 0:
        raise DataError(f"{path.name}: the file is empty")
    try:
        array = np.load(path, mmap_mode="r", allow_pickle=False)
    except (ValueError, OSError, EOFError) as error:
        pickled = "Python objects" in str(error) or "pickle" in str(error)
        reason = "holds pickled Python objects, which are not read" if pickled else f"damaged ({first_line(error)})"
        raise DataError(f"{path.name}: {reason}; save a plain array of numbers with numpy.save") from None
    if not isinstance(array, np.ndarray):
        array.close()
        raise DataError(f"{path.name}: is an npz archive; rename it to .npz")
    if array.ndim != 2:
        raise DataError(
            f"{path.name}: an array of {array.ndim} dimensions, shape {array.shape}; 2 (rows, columns) are expected"
        )
    if array.dtype.kind not in _KINDS_OF_NUMBERS:
        raise DataError(f"{path.name}: an array of type {array.dtype}; numbers are expected")
    return array


def read_npy(path: Path, batch_rows: int) -> Iterator[Batch]:
    """The columns `0`, `1`, ... of one array."""
    array = open_npy(path)
    for start in range(0, len(array), batch_rows):
        block = np.asarray(array[start : start + batch_rows])
        columns = {str(index): _arrow(block[:, index]) for index in range(block.shape[1])}
        yield Batch(columns, len(block), (start + len(block)) / len(array))


def read_npz(path: Path, batch_rows: int) -> Iterator[Batch]:
    """A one-dimensional member is a column; a two-dimensional `x` gives `x.0`, `x.1`, ...

    Raises:
        DataError: damaged, no member, other dimensions, pickled objects, or members of different lengths.
    """
    if path.stat().st_size == 0:
        raise DataError(f"{path.name}: the file is empty")
    try:
        with zipfile.ZipFile(path) as archive, ExitStack() as streams:
            entries = [entry for entry in archive.namelist() if entry.endswith(".npy")]
            members = [_Member(path, entry, streams.enter_context(archive.open(entry))) for entry in entries]
            lengths = {member.name: member.num_rows for member in members}
            if not members:
                raise DataError(f"{path.name}: no arrays in it")
            if len(set(lengths.values())) > 1:
                shown = ", ".join(f"{name} has {length}" for name, length in lengths.items())
                raise DataError(f"{path.name}: arrays with different numbers of rows: {shown}")
            num_rows = members[0].num_rows
            for start in range(0, num_rows, batch_rows):
                count = min(batch_rows, num_rows - start)
                columns: dict[str, Any] = {}
                for member in members:
                    columns |= member.next_columns(count)
                yield Batch(columns, count, (start + count) / num_rows)
    except (zipfile.BadZipFile, ValueError, EOFError, OSError, zlib.error) as error:
        raise DataError(f"{path.name}: not readable as npz: {first_line(error)}") from None


class _Member:
    """One array of an npz, read from front to end."""

    def __init__(self, path: Path, entry: str, stream: IO[bytes]) -> None:
        self.name = entry.removesuffix(".npy")
        self._stream = stream
        shape, fortran_order, self._dtype = _read_array_header(self._stream)
        if self._dtype.hasobject:
            raise DataError(f"{path.name}: array {self.name!r} holds pickled Python objects, which are not read")
        if self._dtype.kind not in _KINDS_OF_NUMBERS + "U":
            raise DataError(f"{path.name}: array {self.name!r} is of type {self._dtype}; numbers or text are expected")
        if len(shape) not in (1, 2):
            raise DataError(f"{path.name}: array {self.name!r} has {len(shape)} dimensions; 1 or 2 are expected")
        self.num_rows = int(shape[0])
        self._width = int(shape[1]) if len(shape) == 2 else None
        self._whole: np.ndarray | None = None
        if fortran_order and self._width:
            values = np.frombuffer(self._stream.read(), dtype=self._dtype)
            self._whole = values.reshape(self._width, self.num_rows).T
        self._position = 0

    def next_columns(self, count: int) -> dict[str, Any]:
        block = self._next(count)
        if self._width is None:
            return {self.name: _arrow(block)}
        return {f"{self.name}.{index}": _arrow(block[:, index]) for index in range(self._width)}

    def _next(self, count: int) -> np.ndarray:
        self._position += count
        if self._whole is not None:
            return self._whole[self._position - count : self._position]
        shape = (count,) if self._width is None else (count, self._width)
        num_bytes = int(np.prod(shape)) * self._dtype.itemsize
        content = self._stream.read(num_bytes)
        if len(content) != num_bytes:
            raise EOFError(f"array {self.name!r} ends too early")
        return np.frombuffer(content, dtype=self._dtype).reshape(shape)


def _read_array_header(stream: IO[bytes]) -> tuple[tuple[int, ...], bool, np.dtype[Any]]:
    version = np.lib.format.read_magic(stream)
    if version == (1, 0):
        return np.lib.format.read_array_header_1_0(stream)
    return np.lib.format.read_array_header_2_0(stream)


def _arrow(values: np.ndarray) -> Any:
    import pyarrow as pa

    if values.dtype.kind == "U":
        return pa.array(values.tolist(), pa.string())
    native = values.astype(values.dtype.newbyteorder("="), copy=False)
    if native.dtype == np.float16:
        native = native.astype(np.float32)
    elif native.dtype.kind == "f" and native.dtype.itemsize > 8:
        native = native.astype(np.float64)
    return pa.array(np.ascontiguousarray(native), from_pandas=False)
