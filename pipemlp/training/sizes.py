"""Bytes for people."""


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
