"""Write a file so that it is there as it was, or as it is to be, whenever the writer is killed."""

import os
from pathlib import Path


def replace_text(path: Path, text: str) -> None:
    """Write a file anew in one step, once it is on the disk.

    Raises:
        OSError: if it cannot be written; it is as it was then.
    """
    temporary = path.with_name(f".{path.name}.tmp")
    with temporary.open("w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    os.replace(temporary, path)
