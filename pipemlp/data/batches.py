"""The file readers behind one door: a file, in order, as batches of pyarrow columns."""

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    import pyarrow as pa

BATCH_ROWS = 65_536


class Batch(NamedTuple):
    """Consecutive rows. CSV columns are text (null where missing), others have the file's own type."""

    columns: "dict[str, pa.Array]"
    num_rows: int
    fraction: float
    """How far through the file, 0 to 1."""


def read_batches(kind: str, path: Path, delimiter: str = ",", batch_rows: int = BATCH_ROWS) -> Iterator[Batch]:
    """Read a file of `kind` (csv, parquet, npy, npz) once, never holding more than a few batches.

    Raises:
        DataError: the file is empty, damaged, or not of this kind; the message begins with its name.
    """
    if kind == "csv":
        from pipemlp.data.csv_files import read_csv

        return read_csv(path, delimiter, batch_rows)
    if kind == "parquet":
        from pipemlp.data.parquet_files import read_parquet

        return read_parquet(path, batch_rows)
    from pipemlp.data.numpy_files import read_npy, read_npz

    return read_npy(path, batch_rows) if kind == "npy" else read_npz(path, batch_rows)


def first_line(error: BaseException) -> str:
    """The first line of a library's message, for one of ours."""
    return (str(error).splitlines() or [type(error).__name__])[0].rstrip(".")


def sliced(columns: "dict[str, Any]", num_rows: int, batch_rows: int, done: float, share: float) -> Iterator[Batch]:
    """Cut columns into batches of at most `batch_rows`; they cover `share` of the file from `done` on."""
    for start in range(0, num_rows, batch_rows):
        count = min(batch_rows, num_rows - start)
        part = {name: column.slice(start, count) for name, column in columns.items()}
        yield Batch(part, count, min(1.0, done + share * (start + count) / num_rows))
