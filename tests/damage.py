"""A file under a manifest, damaged in every way: of a checkpoint, or of a trained model."""

import os
from collections.abc import Callable, Mapping
from pathlib import Path

FOREIGN = 12_345
"""Nobody's user id."""
Damage = Callable[[Path], object]


def truncated(path: Path) -> None:
    """The last bytes are gone; the very last of the manifest is a line's end, which says nothing."""
    path.write_bytes(path.read_bytes()[:-2])


def emptied(path: Path) -> None:
    """Nothing is left in it."""
    path.write_bytes(b"")


def deleted(path: Path) -> None:
    """It is gone."""
    path.unlink()


def bit_flipped(path: Path) -> None:
    """One bit in the middle is another."""
    flipped(path, path.stat().st_size // 2, 3)


def flipped(path: Path, byte: int, bit: int) -> None:
    """One bit is another."""
    data = bytearray(path.read_bytes())
    data[byte] ^= 1 << bit
    path.write_bytes(data)


def swapped(path: Path) -> None:
    """Its content is that of another file of its kind, and the other way round."""
    kind = path.name.split("-")[0]
    others = sorted(each for each in path.parent.iterdir() if each.name.startswith(kind) and each != path)
    other = (others or sorted(each for each in path.parent.iterdir() if each != path))[-1]
    own = path.read_bytes()
    path.write_bytes(other.read_bytes())
    other.write_bytes(own)


def linked(path: Path) -> None:
    """A symbolic link to the very same content."""
    elsewhere = path.parent.parent / f"elsewhere-{path.name}"
    path.rename(elsewhere)
    path.symlink_to(elsewhere)


def piped(path: Path) -> None:
    """A pipe, from which nobody would ever read to the end."""
    path.unlink()
    os.mkfifo(path)


def open_to_all(path: Path) -> None:
    """Everybody may write it."""
    path.chmod(0o666)


def foreign(path: Path) -> None:
    """Another user's."""
    os.chown(path, FOREIGN, FOREIGN)


OF_ANY_FILE: Mapping[str, Damage] = {
    "truncated": truncated,
    "emptied": emptied,
    "deleted": deleted,
    "bit flipped": bit_flipped,
    "swapped": swapped,
    "a link": linked,
    "open to all": open_to_all,
    **({"foreign": foreign} if os.getuid() == 0 else {}),
}
