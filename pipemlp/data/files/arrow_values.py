"""pyarrow columns as numbers (NaN where missing) or text (null where missing)."""

import re
from typing import Any, Literal

import numpy as np

NUMBER_TEXT = re.compile(r"\s*[+-]?((\d+\.?\d*|\.\d+)([eE][+-]?\d+)?|inf|infinity|nan)\s*", re.IGNORECASE)
StoredAs = Literal["f4", "f8", "text", "unusable"]


def stored_as(array: Any) -> StoredAs:
    """How a column of this pyarrow type is kept: float32 where that is exact, float64, text, or not at all."""
    import pyarrow as pa

    kind = array.type.value_type if pa.types.is_dictionary(array.type) else array.type
    tests = pa.types
    if tests.is_float16(kind) or tests.is_float32(kind) or (tests.is_integer(kind) and kind.bit_width <= 16):
        return "f4"
    if tests.is_integer(kind) or tests.is_floating(kind) or tests.is_decimal(kind) or tests.is_null(kind):
        return "f8"
    texts = (tests.is_string, tests.is_large_string, tests.is_boolean, tests.is_date, tests.is_timestamp, tests.is_time)
    return "text" if any(test(kind) for test in texts) else "unusable"


def as_numbers(array: Any) -> np.ndarray:
    """float64 [n] of a column that is not text, NaN where missing."""
    import pyarrow as pa

    if pa.types.is_dictionary(array.type):
        array = array.dictionary_decode()
    return np.asarray(array.cast(pa.float64(), safe=False).to_numpy(zero_copy_only=False), dtype=np.float64)


def as_text(array: Any) -> Any:
    """A string column; true/false and dates become their text."""
    import pyarrow as pa

    if pa.types.is_dictionary(array.type):
        array = array.dictionary_decode()
    return array if pa.types.is_string(array.type) else array.cast(pa.string())


def parse_numbers(array: Any) -> np.ndarray | None:
    """float64 [n] of a text column, NaN where missing; None if some text is no number.

    Whole numbers with leading zeros, such as 00731, are names (postal codes, article numbers) and
    count as text, as they would lose their zeros.
    """
    import pyarrow as pa
    from pyarrow import compute

    try:
        parsed = array.cast(pa.float64())
    except pa.ArrowInvalid:
        try:
            parsed = compute.utf8_trim_whitespace(array).cast(pa.float64())
        except pa.ArrowInvalid:
            return None
    numbers = np.asarray(parsed.to_numpy(zero_copy_only=False), dtype=np.float64)
    present = numbers[np.isfinite(numbers)]
    if (present == np.floor(present)).all():
        zero_first = array.filter(compute.starts_with(array, "0"))
        if len(zero_first) and compute.any(compute.match_substring_regex(zero_first, r"^0[0-9]+$")).as_py():
            return None
    return numbers


def number_of_text(text: str) -> float | None:
    """The number that a text spells, or None."""
    return float(text) if NUMBER_TEXT.fullmatch(text) else None
