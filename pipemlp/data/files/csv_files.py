"""CSV files as batches of text columns; ragged rows and unusable headers are named by line."""

import csv
import re
from collections.abc import Iterator
from pathlib import Path

from pipemlp.config.errors import DataError
from pipemlp.data.files.batch import Batch, first_line, sliced

MISSING_TEXTS = ("", "NA", "N/A", "n/a", "NaN", "nan", "NULL", "null")
_BLOCK_BYTES = 4 << 20
_MOST_LINES_SHOWN = 3
_FRACTION = re.compile(r"[+-]?(\d+\.\d*|\d*\.\d+|\d+(?=[eE]))([eE][+-]?\d+)?")


def read_header(path: Path, delimiter: str) -> tuple[str, ...]:
    """The column names in the first line; an empty name becomes `column_N`.

    Raises:
        DataError: no first line, text that is not UTF-8, a name twice, or numbers where names should be.
    """
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            names = next(csv.reader(file, delimiter=delimiter), None)
    except UnicodeDecodeError as error:
        raise DataError(f"{path.name}: not UTF-8 text ({first_line(error)}); save it as UTF-8") from None
    except csv.Error as error:
        raise DataError(f"{path.name}: line 1: {first_line(error)}") from None
    if not names:
        raise DataError(f"{path.name}: the file is empty; a header line with the column names is expected")
    names = [name.strip() or f"column_{index + 1}" for index, name in enumerate(names)]
    if any(_FRACTION.fullmatch(name) for name in names):
        raise DataError(f"{path.name}: line 1 holds numbers; a header line with the column names is expected")
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise DataError(f"{path.name}: line 1 names {', '.join(map(repr, twice))} twice; give each column its own name")
    return tuple(names)


def read_csv(path: Path, delimiter: str, batch_rows: int) -> Iterator[Batch]:
    """All columns as text; empty, NA, NaN, N/A and null are missing. Lines count records, the header is line 1."""
    import pyarrow as pa
    from pyarrow import csv as arrow_csv

    names = read_header(path, delimiter)
    ragged: list[tuple[int, int]] = []

    def remember(row: arrow_csv.InvalidRow) -> str:
        ragged.append((row.number or 0, row.actual_columns))
        return "skip"

    convert = arrow_csv.ConvertOptions(
        column_types={name: pa.string() for name in names}, null_values=list(MISSING_TEXTS), strings_can_be_null=True
    )
    parse = arrow_csv.ParseOptions(delimiter=delimiter, newlines_in_values=True, invalid_row_handler=remember)
    read = arrow_csv.ReadOptions(
        column_names=list(names), skip_rows=1, use_threads=False, block_size=_block_bytes(path)
    )
    total = max(path.stat().st_size, 1)
    done = 0.0
    try:
        with pa.OSFile(str(path)) as file:
            for block in arrow_csv.open_csv(file, read_options=read, convert_options=convert, parse_options=parse):
                if ragged:
                    break
                reached = min(1.0, file.tell() / total)
                columns = dict(zip(names, block.columns, strict=True))
                yield from sliced(columns, block.num_rows, batch_rows, done, reached - done)
                done = reached
    except pa.ArrowInvalid as error:
        if "UTF8" in str(error):
            raise DataError(f"{path.name}: not UTF-8 text ({first_line(error)}); save it as UTF-8") from None
        raise DataError(f"{path.name}: not readable as CSV: {first_line(error)}") from None
    if ragged:
        raise DataError(_ragged_message(path, len(names), delimiter, ragged))


def _block_bytes(path: Path) -> int:
    """Small blocks for small files, as a block is allocated whole."""
    return min(_BLOCK_BYTES, max(1 << 16, path.stat().st_size + 1))


def _ragged_message(path: Path, num_columns: int, delimiter: str, ragged: list[tuple[int, int]]) -> str:
    shown = "; ".join(f"line {line} has {count}" for line, count in ragged[:_MOST_LINES_SHOWN])
    more = f"; {len(ragged) - _MOST_LINES_SHOWN} more such lines" if len(ragged) > _MOST_LINES_SHOWN else ""
    hint = f"; is the delimiter {delimiter!r} right (data.source: {{name: csv, delimiter: ...}})?"
    return f"{path.name}: the header has {num_columns} columns, but {shown}{more}{hint if num_columns == 1 else ''}"
