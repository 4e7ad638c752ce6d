"""Reads the rows of a file in order, batch by batch, for prediction."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from pipemlp.config.errors import DataError
from pipemlp.data.files.arrow_values import as_numbers, as_text, stored_as
from pipemlp.data.files.paths import find_files, source_of
from pipemlp.data.files.reading import read_batches


def stream_rows(path: Path, batch_rows: int, delimiter: str = ",") -> Iterator[dict[str, np.ndarray]]:
    """Batches of at most `batch_rows` rows: column name -> array [n].

    Numbers are float64 (NaN where missing); text, and every column of a CSV, is an object array of str
    (None where missing), which `Preprocessing.transform_inputs` parses.

    Raises:
        DataError: no such file, or it is empty or damaged.
        ConfigError: unknown ending.
    """
    (file,) = find_files(str(path), Path.cwd(), "input")[:1]
    kind = source_of((file,), "input").name
    num_rows = 0
    for batch in read_batches(kind, file, delimiter, batch_rows):
        num_rows += batch.num_rows
        columns = {}
        for name, column in batch.columns.items():
            stored = stored_as(column)
            if stored == "text":
                columns[name] = as_text(column).to_numpy(zero_copy_only=False)
            elif stored != "unusable":
                columns[name] = as_numbers(column)
        yield columns
    if num_rows == 0:
        raise DataError(f"{file.name}: no rows in it")
