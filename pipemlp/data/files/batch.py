"""A stretch of rows as pyarrow columns: what every file reader yields."""

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    import pyarrow as pa


class Batch(NamedTuple):
    """Consecutive rows. CSV columns are text (null where missing), others have the file's own type."""

    columns: "dict[str, pa.Array]"
    num_rows: int
    fraction: float
    """How far through the file, 0 to 1."""


def first_line(error: BaseException) -> str:
    """The first line of a library's message, for one of ours."""
    return (str(error).splitlines() or [type(error).__name__])[0].rstrip(".")


def sliced(columns: "dict[str, Any]", num_rows: int, batch_rows: int, done: float, share: float) -> Iterator[Batch]:
    """Cut columns into batches of at most `batch_rows`; they cover `share` of the file from `done` on."""
    for start in range(0, num_rows, batch_rows):
        count = min(batch_rows, num_rows - start)
        part = {name: column.slice(start, count) for name, column in columns.items()}
        yield Batch(part, count, min(1.0, done + share * (start + count) / num_rows))
