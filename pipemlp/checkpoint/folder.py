"""The folder `checkpoints/` of a run: what is in it, which is the newest whole one, what goes.

checkpoints/
    step-200/            whole: MANIFEST.json and all that it lists
    step-300/
    latest               the name of the newest, for people and scripts; never trusted
    .saving-400/         being written, or left by a run that was killed meanwhile
    passed-over-350/     was passed over when the run went on; nobody reads it

What is passed over is not whole, or it is refused: it belongs to another user, everybody may write it, a newer version
wrote it. The run comes to the same step again, so it makes room, under a name that says no more than that. Nothing set
aside is ever removed or written over: a second one of the same step is `passed-over-350.2`.
"""

import os
import re
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from pipemlp.checkpoint.manifest import MANIFEST_FILE, Manifest, hashed, parse_manifest
from pipemlp.checkpoint.sealed_files import refuse_foreign
from pipemlp.config.errors import ModelFileError

FOLDER = "checkpoints"
MODEL_FOLDER = "model"
"""Beside it: the trained model, whole in the same way."""
POINTER = "latest"
SAVED_FILE = ".saved"
"""Beside `checkpoints/`: the name of the newest too. With it a run knows that there was one, if all are gone."""
_STEP = re.compile(r"step-(0|[1-9]\d{0,14})")
_SAVING = re.compile(r"\.(saving|removing)-\d{1,15}")


@dataclass(frozen=True)
class Checkpoint:
    """A checkpoint, or a trained model, that was looked at and is whole."""

    directory: Path
    manifest: Manifest

    def file(self, name: str) -> Path:
        """The path of a file that was looked at too.

        Raises:
            ModelFileError: if the manifest does not list it.
        """
        if name not in self.manifest.files:
            raise ModelFileError(f"{self.directory / MANIFEST_FILE}: does not list {name}, which is needed")
        return self.directory / name


def step_folder(step: int) -> str:
    """Name of a checkpoint's folder."""
    return f"step-{step}"


def is_step_folder(path: Path) -> bool:
    """Whether a path has the name of a checkpoint's folder."""
    return _STEP.fullmatch(path.name) is not None


def saving_folder(step: int) -> str:
    """Name of the folder in which it is written first."""
    return f".saving-{step}"


def saved_steps(folder: Path) -> list[int]:
    """Steps of all checkpoints, whole or not, rising."""
    if not folder.is_dir():
        return []
    return sorted(int(found[1]) for entry in folder.iterdir() if (found := _STEP.fullmatch(entry.name)))


def read_manifest(directory: Path) -> Manifest:
    """The manifest of a checkpoint, which has to be that of its folder, or of a trained model.

    Raises:
        ModelFileError: if there is none, or it is damaged, or another's.
    """
    path = directory / MANIFEST_FILE
    refuse_foreign(directory)
    try:
        refuse_foreign(path)
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError as error:
        raise ModelFileError(f"{directory}: {MANIFEST_FILE} is missing; it was not written to its end") from error
    except (OSError, UnicodeDecodeError) as error:
        raise ModelFileError(f"{path}: cannot be read: {error}") from error
    manifest = parse_manifest(text, str(path))
    found = _STEP.fullmatch(directory.name)
    if found and int(found[1]) != manifest.step:
        raise ModelFileError(f"{path}: damaged: it is the manifest of step {manifest.step}")
    return manifest


def check_whole(directory: Path, *, contents: bool = True) -> Checkpoint:
    """The checkpoint or trained model, if it is whole: every file there, with its size; its SHA-256 if `contents`.

    Raises:
        ModelFileError: naming the first file that is not as it was written.
    """
    manifest = read_manifest(directory)
    for name, entry in sorted(manifest.files.items()):
        path = directory / name
        try:
            refuse_foreign(path)
            size = path.stat().st_size
            if size != entry.num_bytes:
                raise ModelFileError(f"{path}: damaged: {size:,} bytes, written were {entry.num_bytes:,}")
            if contents and hashed(path) != entry:
                raise ModelFileError(f"{path}: damaged: its content is not what was written (SHA-256 differs)")
        except FileNotFoundError as error:
            raise ModelFileError(f"{path}: missing; all files that {MANIFEST_FILE} lists are needed") from error
        except OSError as error:
            raise ModelFileError(f"{path}: cannot be read: {error.strerror or error}") from error
    return Checkpoint(directory, manifest)


@dataclass(frozen=True)
class PassedOver:
    """A newer checkpoint that is not whole or is refused, and why."""

    step: int
    reason: str

    def warning(self) -> str:
        """For the user."""
        return f"warning: checkpoint of step {self.step} passed over: {self.reason}"


def newest_whole(folder: Path) -> tuple[Checkpoint | None, list[PassedOver]]:
    """The newest whole checkpoint, and the newer ones that are not."""
    passed: list[PassedOver] = []
    for step in reversed(saved_steps(folder)):
        try:
            return check_whole(folder / step_folder(step)), passed
        except ModelFileError as error:
            passed.append(PassedOver(step, str(error)))
    return None, passed


def newest_to_go_on(folder: Path) -> tuple[Checkpoint | None, list[PassedOver]]:
    """As `newest_whole`, for a run that goes on: without any checkpoint it begins anew, but never past damaged ones.

    Raises:
        ModelFileError: if there are checkpoints, but none is whole.
    """
    found, passed = newest_whole(folder)
    if found is None and passed:
        raise ModelFileError(
            [f"{folder}: none of {len(passed)} checkpoints is whole:", *(each.reason for each in passed)]
        )
    return found, passed


def leftovers(folder: Path) -> Iterator[Path]:
    """What interrupted saves and removals left."""
    if folder.is_dir():
        yield from (entry for entry in folder.iterdir() if _SAVING.fullmatch(entry.name))


def remove(directory: Path) -> None:
    """Remove a checkpoint so that no half of one is ever taken for whole: renamed first."""
    found = _STEP.fullmatch(directory.name)
    gone = directory
    if found:
        gone = directory.with_name(f".removing-{found[1]}")
        os.replace(directory, gone)
    if gone.is_symlink() or not gone.is_dir():
        gone.unlink()
    else:
        shutil.rmtree(gone)


def set_aside(directory: Path) -> Path:
    """Keep a checkpoint that was passed over for its user, under a name that no longer counts, which is returned."""
    first = directory.with_name(directory.name.replace("step-", "passed-over-"))
    aside, number = first, 1
    while aside.is_symlink() or aside.exists():
        number += 1
        aside = first.with_name(f"{first.name}.{number}")
    os.replace(directory, aside)
    return aside
