"""The file readers behind one door: a file, in order, as batches of pyarrow columns."""

from collections.abc import Iterator
from pathlib import Path

from pipemlp.data.files.batch import Batch

BATCH_ROWS = 65_536


def read_batches(kind: str, path: Path, delimiter: str = ",", batch_rows: int = BATCH_ROWS) -> Iterator[Batch]:
    """Read a file of `kind` (csv, parquet, npy, npz) once, never holding more than a few batches.

    Raises:
        DataError: the file is empty, damaged, or not of this kind; the message begins with its name.
    """
    if kind == "csv":
        from pipemlp.data.files.csv_files import read_csv

        return read_csv(path, delimiter, batch_rows)
    if kind == "parquet":
        from pipemlp.data.files.parquet_files import read_parquet

        return read_parquet(path, batch_rows)
    from pipemlp.data.files.numpy_files import read_npy, read_npz

    return read_npy(path, batch_rows) if kind == "npy" else read_npz(path, batch_rows)
