"""Bytes and seconds for people."""

import re

from pipemlp.config.errors import ConfigError

_UNITS = {"": 1, "K": 10**3, "M": 10**6, "G": 10**9, "T": 10**12}
_BINARY = {"K": 2**10, "M": 2**20, "G": 2**30, "T": 2**40}
_SIZE = re.compile(r"(\d+(?:\.\d+)?)\s*([KMGT]?)(i?)B?", re.IGNORECASE)


def size_text(num_bytes: float) -> str:
    """`1.5 GiB`."""
    for unit in ("B", "KiB", "MiB", "GiB"):
        if num_bytes < 1000:
            return f"{num_bytes:.3g} {unit}"
        num_bytes /= 1024
    return f"{num_bytes:.3g} TiB"


def compact_size(num_bytes: float) -> str:
    """`1.5G`, for tables."""
    return size_text(num_bytes).replace(" ", "").removesuffix("iB").removesuffix("B")


def seconds_text(seconds: float) -> str:
    """`1.5 ms`."""
    for unit, factor in (("s", 1.0), ("ms", 1e3), ("us", 1e6)):
        if seconds * factor >= 1.0:
            return f"{seconds * factor:.3g} {unit}"
    return f"{seconds * 1e6:.2g} us" if seconds else "0"


def size_of(text: str) -> float:
    """Bytes of `80G` (80 x 10^9) or `16GiB` (16 x 2^30).

    Raises:
        ConfigError: if the text is no size.
    """
    match = _SIZE.fullmatch(text.strip())
    if match is None or float(match[1]) <= 0 or (match[3] and not match[2]):
        raise ConfigError(f"memory: {text!r} is no size; write such as 80G (80 x 10^9 bytes) or 16GiB (16 x 2^30)")
    unit = match[2].upper()
    return float(match[1]) * (_BINARY[unit] if match[3] else _UNITS[unit])
