"""A disk that fills up while a run saves: a small file system in memory, filled at a chosen moment.

before a save   no space for a checkpoint, some for records: no save, a warning, the training ends well
in a save       files of it are being written: the same
for good        not a byte is left for records either: the run ends as failed, in time
afterwards      what was saved before is whole; with space again the run goes on to the bits of the undisturbed one
"""

import os
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from fault_record import Record, Row, say
from fault_runs import (
    LONGEST_SECONDS,
    Started,
    await_marker,
    difference,
    ends,
    resumed,
    resumed_from,
    start,
    struck,
    undisturbed,
    write_config,
)
from rich.table import Table

from pipemlp.checkpoint.folder import FOLDER, check_whole, newest_whole, saved_steps, step_folder

PART = "disk"
NAME = "run"
DISK_BYTES = 48 * 2**20
HIDDEN = "hidden: [512, 512, 512]"
"""A checkpoint of 9 MiB with the best weights, so that what else a run writes is little beside it."""
ROOM_BYTES = 6 * 2**20
"""For records and the model at the end, and for no checkpoint."""

SETTLE_SECONDS = 1.5
"""Until other ranks have written what they were writing; rank 0 waits longer."""


@dataclass(frozen=True)
class Filling:
    """One case.

    Args:
        name: for the table.
        strike: where rank 0 waits while the disk is filled.
        left_bytes: of it.
        ends_well: whether the training reaches its end.
    """

    name: str
    strike: str
    left_bytes: int
    ends_well: bool


CASES = (
    Filling("before a save", "wait rank=none on=0 at=forward step=9", ROOM_BYTES, True),
    Filling("in a save", "wait rank=none on=0 at=writing step=8", ROOM_BYTES // 3, True),
    Filling("for good", "wait rank=none on=0 at=forward step=9", 0, False),
)


def missing() -> str | None:
    """Why it cannot be done here."""
    if os.getuid() != 0:
        return "only root may mount a file system"
    if shutil.which("mount") is None:
        return "there is no mount"
    return None


@contextmanager
def small_disk(place: Path) -> Iterator[Path]:
    """A file system of its own, gone at the end."""
    place.mkdir()
    options = ["-t", "tmpfs", "-o", f"size={DISK_BYTES}", "tmpfs", str(place)]
    subprocess.run(["mount", *options], check=True)
    try:
        yield place
    finally:
        subprocess.run(["umount", "--lazy", str(place)], check=True)


def run_disk(record: Record, folder: Path, only: str) -> Table | str:
    """Each case with a disk of its own.

    Args:
        record: takes a row for each.
        folder: for the disks.
        only: those whose name contains this.
    """
    problem = missing()
    if problem is not None:
        return f"disk: left out; {problem}"
    for index, case in enumerate(case for case in CASES if only in case.name):
        with small_disk(folder / f"disk-{index}") as disk:
            row = _run(case, disk)
            record.add(PART, row)
            say(f"  {case.name}: {row['problem'] or 'as wanted'}")
    return _table(record)


def _run(case: Filling, disk: Path) -> Row:
    write_config(disk, 2, steps=24, evaluate=5, save=4, log=1)
    config = disk / "run.yaml"
    config.write_text(config.read_text().replace("hidden: [8, 8, 8]", HIDDEN))
    undisturbed(disk)
    shutil.rmtree(disk / "whole" / FOLDER)
    row: Row = {"case": case.name, "exit_code": None, "newest_before": None, "resumed_after": None, "problem": None}
    started = start(disk, NAME, case.strike)
    try:
        row["problem"] = _fill(case, started, disk, row)
    finally:
        started.end()
    printed = started.printed
    row["said"] = [line for line in printed.splitlines() if "space" in line or "MiB are" in line][:2]
    if row["problem"] is None:
        row["problem"] = _afterwards(case, disk, row)
    return row if row["problem"] is None else row | {"printed": printed[-4000:]}


def _fill(case: Filling, started: Started, disk: Path, row: Row) -> str | None:
    """Until the run has ended; what was not as it should be."""
    if not await_marker(started, struck(disk, NAME)):
        return "it did not get there"
    before, _ = newest_whole(disk / NAME / FOLDER)
    row["newest_before"] = 0 if before is None else before.manifest.step
    time.sleep(SETTLE_SECONDS)
    with (disk / "ballast").open("wb") as ballast:
        os.posix_fallocate(ballast.fileno(), 0, shutil.disk_usage(disk).free - case.left_bytes)
    if not ends(started, LONGEST_SECONDS if case.ends_well else 60.0):
        return f"these still run: {started.living()}"
    row["exit_code"] = code = started.process.poll()
    if case.ends_well != (code == 0):
        return f"exit code {code}"
    if case.ends_well and "the checkpoints before are untouched; the training goes on" not in started.printed:
        return "it did not say that it could not save"
    if not case.ends_well and "Traceback" in started.err:
        return "a traceback"
    return None


def _afterwards(case: Filling, disk: Path, row: Row) -> str | None:
    """What was whole before is so still, or has made place for a newer one; and with space the run goes on."""
    checkpoints = disk / NAME / FOLDER
    steps = saved_steps(checkpoints)
    if row["newest_before"] and (not steps or steps[-1] < row["newest_before"]):
        return f"the checkpoint of step {row['newest_before']} is gone: {steps}"
    for step in steps:
        check_whole(checkpoints / step_folder(step))
    (disk / "ballast").unlink()
    if case.ends_well:
        return difference(disk, NAME)
    try:
        row["resumed_after"] = resumed_from(resumed(disk, NAME))
    except AssertionError as error:
        return f"it does not go on: {str(error)[-2000:]}"
    return difference(disk, NAME)


def _table(record: Record) -> Table:
    table = Table("the disk is full", "exit code", "saved before", "resumed after", "found", title="disk")
    for row in (each for each in record.new if each["part"] == PART):
        numbers = (
            str(row[key]) if row[key] is not None else "" for key in ("exit_code", "newest_before", "resumed_after")
        )
        table.add_row(row["case"], *numbers, row["problem"] or "as wanted")
    return table
