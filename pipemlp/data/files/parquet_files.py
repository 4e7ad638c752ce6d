"""Parquet files as batches of columns in their own types."""

from collections.abc import Iterator
from pathlib import Path

from pipemlp.config.errors import DataError
from pipemlp.data.files.batch import Batch, first_line


def read_parquet(path: Path, batch_rows: int) -> Iterator[Batch]:
    """All columns, row group by row group.

    Raises:
        DataError: not a Parquet file, damaged, or a column name twice.
    """
    import pyarrow as pa
    from pyarrow import parquet

    if path.stat().st_size == 0:
        raise DataError(f"{path.name}: the file is empty")
    try:
        with parquet.ParquetFile(path) as file:
            names = file.schema_arrow.names
            twice = sorted({name for name in names if names.count(name) > 1})
            if twice:
                raise DataError(f"{path.name}: the columns {', '.join(map(repr, twice))} are there twice")
            done, total = 0, max(file.metadata.num_rows, 1)
            for block in file.iter_batches(batch_size=batch_rows):
                done += block.num_rows
                yield Batch(dict(zip(names, block.columns, strict=True)), block.num_rows, done / total)
    except (pa.ArrowException, OSError) as error:
        raise DataError(f"{path.name}: not readable as Parquet: {first_line(error)}") from None
