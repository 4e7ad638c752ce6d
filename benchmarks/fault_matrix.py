"""The kill matrix: how x whom x where, each in a run of its own that then goes on to the same bits.

how      SIGKILL SIGTERM SIGSTOP exception non-finite
whom     rank 0 (the first stage)  rank 1 (the middle)  rank 2 (the last)  the launcher
where    start-up ... while resuming; publishing and pruning are rank 0's, who waits there while another is struck
"""

import random
import shutil
import signal
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path

from fault_record import Record, Row, say
from fault_runs import (
    LONGEST_SECONDS,
    MARGIN_SECONDS,
    TIMEOUT_SECONDS,
    Started,
    await_marker,
    difference,
    ends,
    go_on,
    resumed,
    resumed_from,
    start,
    state_of,
    struck,
    undisturbed,
    waited_until,
    write_config,
)
from rich.table import Table

from pipemlp.launching.status import read_status

PART = "matrix"
STEPS, EVALUATE, SAVE = 24, 5, 4
HOWS = ("SIGKILL", "SIGTERM", "SIGSTOP", "exception", "non-finite")
LAUNCHER = "launcher"
WHOM = ("0", "1", "2", LAUNCHER)
"""Ranks are stages here; rank 0 is the first of them."""
PASSES = ("forward", "backward", "exchange")
SAVING = ("writing", "before the rename", "before the pointer", "removing")
WHERE = ("start-up", *PASSES, *SAVING, "resuming")
ON_RANK_0 = ("before the rename", "before the pointer", "removing")
STRUCK_STEP = {"start-up": 0, "resuming": 0, "removing": 12}
"""Else at 8: a step that is followed by a checkpoint, which must not have in it what went wrong."""
LARGEST_CODE = 6
"""Of the promised exit codes for failures."""


@dataclass(frozen=True)
class Cell:
    """One strike."""

    how: str
    whom: str
    where: str

    @property
    def name(self) -> str:
        """For the record."""
        return f"{self.how} {self.whom} {self.where}"

    @property
    def folder_name(self) -> str:
        """Of its run."""
        return self.name.replace(" ", "-")

    @property
    def is_elsewhere(self) -> bool:
        """Whether rank 0 waits at the place while another is struck."""
        return self.whom == LAUNCHER or (self.where in ON_RANK_0 and self.whom != "0")

    @property
    def strike(self) -> str:
        """As the plug-in wants it."""
        step, on = STRUCK_STEP.get(self.where, 8), " on=0" if self.is_elsewhere else ""
        return f"{self.how} rank={self.whom} at={self.where.replace(' ', '_')} step={step}{on}"

    @property
    def codes(self) -> Sequence[int]:
        """The exit codes that are right."""
        if self.how == "SIGTERM":
            return (75,)
        if self.whom == LAUNCHER:
            return (-signal.SIGKILL,) if self.how == "SIGKILL" else (0,)  # stopped, it has no effect
        if self.how == "exception" and self.where in SAVING[:-1] and not self.is_elsewhere:
            return (0,)  # an error while saving is told to all, a warning, and the training goes on
        return range(1, LARGEST_CODE + 1)

    @property
    def state(self) -> str:
        """The one that status.json should have."""
        return {75: "preempted", 0: "finished"}.get(self.codes[0], "failed")


def cells(seed: int = 0) -> list[Cell]:
    """All that make sense, in an order that soon has some of every kind."""
    found = [cell for cell in map(Cell, *zip(*product(HOWS, WHOM, WHERE), strict=True)) if left_out(cell) is None]
    random.Random(seed).shuffle(found)
    return found


def left_out(cell: Cell) -> str | None:
    """Why there is no such cell."""
    if cell.whom == LAUNCHER and cell.how in ("exception", "non-finite"):
        return "it computes nothing, and calls nothing of a run that could raise"
    if cell.how == "non-finite" and cell.where == "start-up":
        return "nothing is computed yet"
    return None


def run_matrix(record: Record, folder: Path, budget_seconds: float, most: int | None, only: str) -> None:
    """Strike cell after cell until the time is over; those that went well before are left out, others tried again.

    Args:
        record: of this and earlier starts.
        folder: for the runs.
        budget_seconds: after which no further cell is begun.
        most: cells at most.
        only: those whose name contains one of these, separated by commas.
    """
    until = time.monotonic() + budget_seconds
    todo = list(_todo(record, only))
    say(f"matrix: {len(todo)} of {len(cells())} cells to go")
    if not todo:
        return
    write_config(folder, len(WHOM) - 1, STEPS, EVALUATE, SAVE, log=1)
    undisturbed(folder)
    _half(folder)
    for index, cell in enumerate(todo[:most]):
        if time.monotonic() > until:
            say(f"matrix: the time is over, {len(todo) - index} cells are left; the same command goes on")
            return
        row = _run(cell, folder)
        record.add(PART, row)
        say(f"  {cell.name}: {row['problem'] or 'as wanted'} ({row['cell_seconds']:.0f} s)")
    say(f"matrix: {len(list(_todo(record, only)))} cells are left")


def _todo(record: Record, only: str) -> Iterator[Cell]:
    """New ones first."""
    last = {row["cell"]: row for row in record.of(PART)}
    chosen = [cell for cell in cells() if any(text in cell.name for text in only.split(","))]
    yield from (cell for cell in chosen if cell.name not in last)
    yield from (cell for cell in chosen if cell.name in last and last[cell.name]["problem"] is not None)


def _half(folder: Path) -> None:
    """A run that died on its way, to be copied by all that are struck while they go on."""
    started = start(folder, "half", "SIGKILL rank=1 at=forward step=14")
    try:
        if not await_marker(started, struck(folder, "half")) or not ends(started, LONGEST_SECONDS):
            raise RuntimeError(f"the run to go on with was not struck:\n{started.printed}")
    finally:
        started.end()


def _run(cell: Cell, folder: Path) -> Row:
    began = time.monotonic()
    row: Row = {"cell": cell.name, "how": cell.how, "whom": cell.whom, "where": cell.where}
    row |= {"exit_code": None, "seconds": None, "resumed_after": None, "problem": None}
    started = _started(cell, folder)
    try:
        row["problem"] = _strike(cell, started, folder, row) or _go_on(cell, folder, row)
    finally:
        started.end()
    if row["problem"] is not None:
        row["printed"] = started.printed[-4000:]
    else:
        shutil.rmtree(folder / cell.folder_name)
    return row | {"cell_seconds": time.monotonic() - began}


def _started(cell: Cell, folder: Path) -> Started:
    name = cell.folder_name
    for left in (folder / name, struck(folder, name)):  # of an earlier try
        shutil.rmtree(left, ignore_errors=True)
        left.unlink(missing_ok=True)
    if cell.where != "resuming":
        return start(folder, name, cell.strike)
    shutil.copytree(folder / "half", folder / name)
    return go_on(folder, name, cell.strike)


def _strike(cell: Cell, started: Started, folder: Path, row: Row) -> str | None:
    """Until nobody is left; what was not as it should be."""
    marker, run_dir = struck(folder, cell.folder_name), folder / cell.folder_name
    if not await_marker(started, marker):
        return "it was not struck"
    if cell.whom == LAUNCHER:
        started.process.send_signal(getattr(signal, cell.how))
    if cell.state == "finished":
        waited_until(lambda: _has_said_its_end(run_dir), LONGEST_SECONDS, 0.5)
        if cell.how == "SIGSTOP":
            started.process.send_signal(signal.SIGCONT)
    limit = TIMEOUT_SECONDS + MARGIN_SECONDS
    has_ended = ends(started, limit)
    row["seconds"], row["exit_code"] = time.time() - marker.stat().st_mtime, started.process.poll()
    if not has_ended:
        return f"after {limit:g} s these still run: {[' '.join(each.cmdline()) for each in started.living()]}"
    if row["exit_code"] not in cell.codes:
        return f"exit code {row['exit_code']}, wanted {cell.codes}"
    if not waited_until(lambda: state_of(run_dir) == cell.state, TIMEOUT_SECONDS, 0.5):
        return f"the state is {state_of(run_dir)}, wanted {cell.state}"
    return None


def _has_said_its_end(run_dir: Path) -> bool:
    """Whatever a reader should believe meanwhile."""
    status = read_status(run_dir)
    return status is not None and status.state != "running"


def _go_on(cell: Cell, folder: Path, row: Row) -> str | None:
    """The rest of the run, which has to have the bits of the undisturbed one."""
    if cell.state != "finished":
        try:
            printed = resumed(folder, cell.folder_name)
        except AssertionError as error:
            return f"it does not go on: {str(error)[-2000:]}"
        row["resumed_after"] = resumed_from(printed)
    return difference(folder, cell.folder_name)


def matrix_table(record: Record) -> Table:
    """The last word on every cell: seconds from the strike until nobody is left."""
    last = {row["cell"]: row for row in record.of(PART)}
    table = Table(
        "how", "whom", title=f"{sum(row['problem'] is None for row in last.values())} of {len(cells())} cells"
    )
    for where in WHERE:
        table.add_column(where, justify="right")
    for how, whom in product(HOWS, WHOM):
        own = [Cell(how, whom, where) for where in WHERE]
        if any(left_out(cell) is None for cell in own):
            table.add_row(how, whom if whom == LAUNCHER else f"rank {whom}", *(_entry(cell, last) for cell in own))
    return table


def _entry(cell: Cell, last: dict[str, Row]) -> str:
    if left_out(cell) is not None:
        return "-"
    row = last.get(cell.name)
    if row is None:
        return ""
    if row["problem"] is not None:
        return "FAILED"
    return "goes on" if cell.state == "finished" else f"{row['seconds']:.1f} s"
