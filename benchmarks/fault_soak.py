"""One run that is killed again and again, at random instants, and has the bits of the undisturbed one in the end."""

import random
import time
from pathlib import Path

from fault_record import Record, say
from fault_runs import (
    LONGEST_SECONDS,
    MARGIN_SECONDS,
    TIMEOUT_SECONDS,
    Started,
    difference,
    ends,
    go_on,
    kill,
    resumed,
    resumed_from,
    start,
    undisturbed,
    waited_until,
    write_config,
)
from rich.table import Table

PART = "soak"
NAME = "killed"
STEPS_PER_KILL = 250
"""More than are done between two kills, so that the run does not end before the last."""
TRAINING_SECONDS = 2.0
"""Of a start that is killed in its training, at most."""
STARTING_SHARE = 0.25
"""Of the kills come while the run starts, where nothing can be lost but time."""
ROLES = ("worker-0", "worker-1", "started", "launch")


def run_soak(record: Record, folder: Path, num_kills: int, seed: int) -> Table:
    """Kill so often, go on to the end, compare.

    Args:
        record: takes a row for every kill, and one for the end.
        folder: for the runs.
        num_kills: how many.
        seed: of whom and when.
    """
    chance = random.Random(seed)
    write_config(folder, 2, STEPS_PER_KILL * num_kills, evaluate=100, save=20, log=10)
    say("  the undisturbed run ...")
    began = time.monotonic()
    undisturbed(folder)
    seconds_to_start = _seconds_to_start(folder)
    say(f"  took {time.monotonic() - began:.0f} s; a start takes {seconds_to_start:.0f} s")
    problem, longest = None, 0.0
    for index in range(num_kills):
        row = _killed(folder, index, chance, seconds_to_start)
        longest, problem = max(longest, row["seconds"]), row["problem"]
        record.add(PART, row)
        say(f"  kill {index + 1}: {row['whom']}, resumed after step {row['resumed_after']}: {problem or 'ended'}")
        if problem is not None:
            break
    if problem is None:
        printed = resumed(folder, NAME)
        problem = difference(folder, NAME)
        row = {"kill": "the end", "whom": "", "resumed_after": resumed_from(printed), "seconds": longest}
        record.add(PART, row | {"steps": STEPS_PER_KILL * num_kills, "problem": problem})
    return _table(record, problem)


def _seconds_to_start(folder: Path) -> float:
    """From the command to the first step."""
    began = time.monotonic()
    started = start(folder, "start")
    try:
        started.wait_for_training(folder / "start")
        return time.monotonic() - began
    finally:
        started.end()


def _killed(folder: Path, index: int, chance: random.Random, seconds_to_start: float) -> dict:
    """One start that is killed; from the command on, or once it trains."""
    started = start(folder, NAME) if index == 0 else go_on(folder, NAME)
    role = chance.choice(ROLES)
    try:
        if chance.random() < STARTING_SHARE:
            time.sleep(chance.uniform(0.0, seconds_to_start))
        else:
            _await_step(started, folder / NAME / "metrics.jsonl")
            time.sleep(chance.uniform(0.0, TRAINING_SECONDS))
        row = {"kill": index + 1, "whom": role, "resumed_after": resumed_from(started.printed), "seconds": 0.0}
        if started.process.poll() is not None:
            return row | {"problem": f"it had ended before with exit code {started.process.poll()}: {started.printed}"}
        began = time.monotonic()
        row["whom"] = kill(started, role)
        has_ended = ends(started, TIMEOUT_SECONDS + MARGIN_SECONDS)
        row["seconds"] = time.monotonic() - began
        if not has_ended:
            return row | {"problem": f"these still run: {started.living()}"}
        code = started.process.poll()
        return row | {"exit_code": code, "problem": None if code else f"exit code {code}"}
    finally:
        started.end()


def _await_step(started: Started, metrics: Path) -> None:
    """Until this start, not one before, has written a line: a start cuts the file first, and then it grows."""
    sizes = [_size(metrics)]

    def grows() -> bool:
        sizes.append(_size(metrics))
        return sizes[-1] > sizes[-2] or started.process.poll() is not None

    waited_until(grows, LONGEST_SECONDS)


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0


def _table(record: Record, problem: str | None) -> Table:
    own = [row for row in record.new if row["part"] == PART]
    kills = [row for row in own if row["kill"] != "the end"]
    table = Table("kills", "of", "longest until nobody was left", "in the end", title="soak")
    whom = ", ".join(f"{role} {sum(row['whom'] == role for row in kills)}" for role in ROLES)
    longest = max((row["seconds"] for row in kills), default=0.0)
    table.add_row(str(len(kills)), whom, f"{longest:.1f} s", problem or "the same bits")
    return table
