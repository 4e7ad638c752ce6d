"""The cache folder: each entry is built once under a lock, next to its place, and renamed when whole.

several processes ──► lock KEY ──► KEY there? ── yes ──► use it
                                       └─ no ──► build KEY.partial ──► rename to KEY
"""

import fcntl
import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from pipemlp.config.errors import DataError

Progress = Callable[[str, float], None]
_HASH_BLOCK_BYTES = 8 << 20


def cache_dir() -> Path:
    """`$XDG_CACHE_HOME/pipemlp` or `~/.cache/pipemlp`; where that cannot be written, a folder in the temporary one."""
    home = os.environ.get("XDG_CACHE_HOME") or str(Path("~").expanduser() / ".cache")
    for folder in (Path(home) / "pipemlp", Path(tempfile.gettempdir()) / f"pipemlp-{os.getuid()}"):
        try:
            folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            with tempfile.TemporaryFile(dir=folder):
                pass
        except OSError:
            continue
        if folder.stat().st_uid == os.getuid():
            return folder
    raise DataError("data: no folder for the cached rows can be written; set XDG_CACHE_HOME to one that can")


def build_once(key: str, build: Callable[[Path], None]) -> Path:
    """The folder of `key`, built by the first process that asks; others wait for it. Nothing half-built stays.

    Raises:
        DataError: the folder cannot be written, such as for lack of room.
    """
    root = cache_dir()
    place, partial = root / key, root / f"{key}.partial"
    if place.is_dir():
        return place
    with _locked(root / f"{key}.lock"):
        if place.is_dir():
            return place
        shutil.rmtree(partial, ignore_errors=True)
        try:
            partial.mkdir()
            build(partial)
            partial.rename(place)
        except OSError as error:
            reason = error.strerror or str(error)
            raise DataError(f"data: cannot write to {root}: {reason}; set XDG_CACHE_HOME to a larger disk") from error
        finally:
            shutil.rmtree(partial, ignore_errors=True)
    return place


def content_hash(path: Path, progress: Progress | None = None) -> str:
    """Hash of a file's bytes (BLAKE2b, 32 hexadecimal digits); an unchanged file is not read again.

    A file counts as unchanged while its path, size and time of change are the same.
    """
    status = path.stat()
    stamp = [str(path), status.st_size, status.st_mtime_ns]
    folder = cache_dir() / "hashes"
    folder.mkdir(exist_ok=True)
    memo = folder / f"{hashlib.blake2b(str(path).encode(), digest_size=16).hexdigest()}.json"
    with _locked(memo.with_suffix(".lock")):
        try:
            known = json.loads(memo.read_text())
            if known["stamp"] == stamp:
                return str(known["hash"])
        except (OSError, ValueError, KeyError, TypeError):
            pass
        found = _hash_bytes(path, status.st_size, progress)
        partial = memo.with_suffix(".partial")
        partial.write_text(json.dumps({"stamp": stamp, "hash": found}))
        partial.replace(memo)
    return found


def _hash_bytes(path: Path, size: int, progress: Progress | None) -> str:
    digest = hashlib.blake2b(digest_size=16)
    done = 0
    with path.open("rb") as file:
        while block := file.read(_HASH_BLOCK_BYTES):
            digest.update(block)
            done += len(block)
            if progress and size > _HASH_BLOCK_BYTES:
                progress(f"fingerprint of {path.name}", done / size)
    return digest.hexdigest()


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    with path.open("a") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
