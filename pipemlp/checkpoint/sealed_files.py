"""The files that a manifest lists: on the disk and nobody else's to write when it is made; refused if they are later.

written      as their folder says, but not by everybody      flushed      hashed      MANIFEST.json
read         no link, no pipe; of this user or root; not for everybody to write
"""

import os
import stat
from pathlib import Path

from pipemlp.checkpoint.manifest import MANIFEST_FILE, FileEntry, Manifest, hashed
from pipemlp.config.errors import ModelFileError
from pipemlp.config.files import replace_text


def make_folder(path: Path) -> None:
    """A folder for them, if there is none yet; what everybody may write is not loaded again."""
    path.mkdir(parents=True, exist_ok=True)
    mode = path.stat().st_mode
    if mode & 0o002:
        path.chmod(mode & ~0o002)


def seal(path: Path) -> None:
    """Have a file that was just written on the disk, and as open as its folder."""
    _as_its_folder(path)
    flush(path)


def sealed(path: Path) -> FileEntry:
    """The same; what the manifest is to say of it."""
    seal(path)
    return hashed(path)


def write_manifest(directory: Path, manifest: Manifest) -> None:
    """Written last: with it, the folder is whole."""
    replace_text(directory / MANIFEST_FILE, manifest.to_text())
    _as_its_folder(directory / MANIFEST_FILE)
    flush(directory)


def _as_its_folder(path: Path) -> None:
    """Who may read and write the folder may do so with a file in it, whoever made it."""
    path.chmod(path.parent.stat().st_mode & 0o664)


def flush(path: Path) -> None:
    """Wait until a file, or what a folder lists, is on the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def refuse_foreign(path: Path) -> None:
    """Nothing is loaded that others could have put there.

    Raises:
        ModelFileError: for a symbolic link, a file of another user (root may own it), one that everybody may write.
    """
    status = path.lstat() if path.is_symlink() or path.exists() else None
    if status is None:
        return
    if path.is_symlink():
        raise ModelFileError(f"{path}: is a symbolic link; only plain files are loaded")
    if not (stat.S_ISREG(status.st_mode) or stat.S_ISDIR(status.st_mode)):
        raise ModelFileError(f"{path}: is no file; only plain files are loaded")
    if status.st_uid not in (os.geteuid(), 0):
        raise ModelFileError(f"{path}: belongs to another user (uid {status.st_uid}); copy it first, if you trust it")
    if status.st_mode & 0o002:
        raise ModelFileError(f"{path}: everybody may write it; `chmod -R o-w {path}`, if you trust it")
