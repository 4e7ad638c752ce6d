"""All ranks write one checkpoint: it is there with its last step, whole, or it is not there at all.

    rank 0      make .saving-N                              MANIFEST.json, rename to step-N, latest, prune
    every rank                 | write its files, fsync |
                               ^                        ^                                             ^
    agreed by all              that there is a folder   that all is written                           the end

A rename is one step for the file system, and comes after everything it makes visible is on the disk; so a run that is
killed at any moment leaves whole checkpoints, and at most a `.saving-N` that the next start removes. Errors are told to
all ranks before anyone raises, so that nobody waits for a rank that has given up.
"""

import os
import shutil
import traceback
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, TypeVar

from pipemlp.checkpoint.folder import POINTER, SAVED_FILE, remove, saved_steps, saving_folder, step_folder
from pipemlp.checkpoint.manifest import FileEntry, Manifest, hashed
from pipemlp.checkpoint.sealed_files import flush, make_folder, seal, write_manifest
from pipemlp.config.errors import ModelFileError
from pipemlp.config.files import replace_text

Value = TypeVar("Value")
Tell = Callable[[str], None]
"""Told what is about to be done."""
SPARE = 1.02
"""Times the bytes of a checkpoint have to be free before it is begun."""


class Together(Protocol):
    """The ranks of a run, who all call this in the same order."""

    @property
    def rank(self) -> int:
        """This one."""

    def everyone(self, value: Value) -> list[Value]:
        """What every rank gave, by rank."""


@dataclass(frozen=True)
class Writing:
    """What one rank writes.

    Args:
        num_bytes: of all its files, about.
        write: writes them into a folder; returns their names.
    """

    num_bytes: int
    write: Callable[[Path], list[str]]


def commit(
    folder: Path,
    step: int,
    writing: Writing,
    describe: Callable[[Mapping[str, FileEntry]], Manifest],
    together: Together,
    doing: Tell,
) -> None:
    """Write a checkpoint; every rank calls this.

    Args:
        folder: `checkpoints/` of the run, seen by all ranks.
        step: optimizer steps done.
        writing: this rank's files.
        describe: the manifest of all files; asked on rank 0.
        together: all ranks.
        doing: told what is about to be done.

    Raises:
        ModelFileError: on every rank, if any of them could not write; what was there before is untouched.
    """
    staging = folder / saving_folder(step)
    num_bytes = sum(together.everyone(writing.num_bytes))
    agreed = _Agreement(together, step, staging, doing)
    agreed.on(lambda: _make(staging, together.rank, num_bytes, doing, step))
    written = agreed.on(lambda: _write(staging, writing, doing, step))
    if together.rank != 0:
        agreed.on(lambda: None)
        return
    files = {name: entry for own in written for name, entry in own.items()}
    agreed.on(lambda: _publish(folder, step, lambda: describe(files), doing))


def _make(staging: Path, rank: int, num_bytes: int, doing: Tell, step: int) -> None:
    """The folder, if there is space for what all ranks write."""
    doing(f"checkpoint {step}: making a folder")
    if rank == 0:
        shutil.rmtree(staging, ignore_errors=True)
        make_folder(staging)
    place = staging if staging.exists() else staging.parent
    place = place if place.exists() else place.parent
    free = shutil.disk_usage(place).free
    if free < SPARE * num_bytes:
        raise OSError(f"{num_bytes / 2**20:,.0f} MiB are needed, {free / 2**20:,.0f} MiB are free")


def _write(staging: Path, writing: Writing, doing: Tell, step: int) -> dict[str, FileEntry]:
    doing(f"checkpoint {step}: writing")
    entries = {}
    for name in writing.write(staging):
        doing(f"checkpoint {step}: flushing {name}")
        seal(staging / name)
        doing(f"checkpoint {step}: hashing {name}")
        entries[name] = hashed(staging / name)
    flush(staging)
    return entries


def _publish(folder: Path, step: int, describe: Callable[[], Manifest], doing: Tell) -> None:
    staging, final = folder / saving_folder(step), folder / step_folder(step)
    doing(f"checkpoint {step}: describing it")
    write_manifest(staging, describe())
    if final.exists():  # not whole: a run that resumes from an older one comes to the same step again
        remove(final)
    doing(f"checkpoint {step}: before the rename")
    os.replace(staging, final)
    flush(folder)
    doing(f"checkpoint {step}: before the pointer")
    point_to(folder, step)


def point_to(folder: Path, step: int) -> None:
    """Name the newest checkpoint in `latest`, in one step; and beside the folder, where it outlives it."""
    for path in (folder / POINTER, folder.with_name(SAVED_FILE)):
        replace_text(path, f"{step_folder(step)}\n")
        flush(path.parent)


def prune(folder: Path, newest: int, keep: int, kept_too: int | None, doing: Tell) -> None:
    """Remove all checkpoints but the newest ones. Those of later steps are not looked at: this run has not written
    them, so they neither count nor go.

    Args:
        folder: `checkpoints/` of the run.
        newest: the step of the one that was just written, and is whole.
        keep: how many stay.
        kept_too: the step of one more that stays.
        doing: told what is about to be done.

    Raises:
        OSError: if one cannot be removed; it is no checkpoint any more then, and the next start removes it.
    """
    for step in [step for step in saved_steps(folder) if step <= newest][:-keep]:
        if step != kept_too:
            doing(f"checkpoint {step}: removing")
            remove(folder / step_folder(step))


@dataclass(frozen=True)
class _Agreement:
    """All ranks do a part of a save, and go on only if all could.

    Args:
        together: all ranks.
        step: of the checkpoint.
        staging: the folder that goes if one could not.
        doing: told that this rank waits for the others, which is nothing of its own.
    """

    together: Together
    step: int
    staging: Path
    doing: Tell

    def on(self, act: Callable[[], Value]) -> list[Value]:
        """What `act` returned on every rank; if it failed on any, all raise the same.

        Raises:
            ModelFileError: naming the first rank that failed, and why.
        """
        own: tuple[Value | None, str | None]
        try:
            own = act(), None
        except Exception as error:  # noqa: BLE001 - whatever it is, the others wait for this rank's word
            own = None, _reason(error)
        self.doing("")
        everyone = self.together.everyone(own)
        failed = [(rank, message) for rank, (_, message) in enumerate(everyone) if message is not None]
        if failed:
            if self.together.rank == 0:
                shutil.rmtree(self.staging, ignore_errors=True)
            rank, message = failed[0]
            raise ModelFileError(f"checkpoint of step {self.step}: rank {rank} could not write it: {message}")
        return [value for value, _ in everyone]  # type: ignore[misc]


def _reason(error: Exception) -> str:
    if isinstance(error, OSError | ModelFileError):
        return str(error)
    traceback.print_exception(error)  # to the log: a full disk may come as an error of safetensors, and so may a bug
    return f"{type(error).__name__}: {error}"
