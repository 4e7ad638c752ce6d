"""`status.json`: one small file in the run directory that says how the run is doing, and how it ended."""

import dataclasses
import fcntl
import json
import os
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

from pipemlp.config.errors import ClusterError

State = Literal["running", "finished", "failed", "preempted"]

STATUS_FILE = "status.json"
_LOCK_FILE = ".status.lock"
_LOCK_TIMEOUT_SECONDS = 5.0


@dataclass(frozen=True)
class RunStatus:
    """What `status.json` holds; `updated_at` is in unix seconds.

    `own` says of a failure that its message comes from the process that failed, not from one that only noticed;
    `comes_again`, that it would fail in the same way from the same checkpoint.
    """

    state: State
    step: int = 0
    exit_code: int | None = None
    message: str = ""
    host: str = dataclasses.field(default_factory=socket.gethostname)
    pid: int = dataclasses.field(default_factory=os.getpid)
    updated_at: float = dataclasses.field(default_factory=time.time)
    own: bool = False
    comes_again: bool = False


def read_status(run_dir: Path) -> RunStatus | None:
    """The status of a run, None where none was written; raises ClusterError for a file that is no status."""
    path = Path(run_dir) / STATUS_FILE
    try:
        entries = json.loads(path.read_text(encoding="utf-8"))
        status = RunStatus(**entries)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (ValueError, TypeError) as error:
        raise ClusterError(f"{path}: is not the status of a run ({error})") from error
    if status.state not in get_args(State):
        raise ClusterError(f"{path}: state: {status.state!r} is none of {', '.join(get_args(State))}")
    return status


def effective_state(status: RunStatus, now: float, timeout_seconds: float) -> State:
    """The state that a reader should believe: a `running` that is older than the timeout has failed.

    `now` is in unix seconds.
    """
    if status.state == "running" and now - status.updated_at > timeout_seconds:
        return "failed"
    return status.state


def write_status(
    run_dir: Path,
    state: State,
    *,
    step: int = 0,
    exit_code: int | None = None,
    message: str = "",
    fresh: bool = False,
) -> RunStatus:
    """Write the status and return what the file now holds.

    A recorded failure stays, whatever is written after it, unless `fresh` says that a new run begins here (at the
    start, or when resuming). Raises OSError where the directory cannot be written.
    """
    with _locked(Path(run_dir)):
        current = _current(run_dir)
        if current is not None and current.state == "failed" and not fresh:
            return current
        return _replace(Path(run_dir), RunStatus(state, step, exit_code, message))


def report_failure(run_dir: Path, message: str, exit_code: int, own: bool, comes_again: bool = False) -> RunStatus:
    """Record that the run failed and return what the file now holds.

    With `own` the caller itself failed; without, it only saw that another process left. The first own failure wins
    over everything; a failure that was only noticed replaces nothing but `running`. Raises OSError where the directory
    cannot be written: a caller that is about to exit has to expect that.
    """
    with _locked(Path(run_dir)):
        current = _current(run_dir)
        if current is not None:
            first_cause_is_known = current.state == "failed" and current.own
            if first_cause_is_known or (not own and current.state != "running"):
                return current
        step = 0 if current is None else current.step
        return _replace(Path(run_dir), RunStatus("failed", step, exit_code, message, own=own, comes_again=comes_again))


def _current(run_dir: Path) -> RunStatus | None:
    """As `read_status`, but a damaged file counts as none: it must not keep a failure from being recorded."""
    with suppress(ClusterError):
        return read_status(run_dir)
    return None


def _replace(run_dir: Path, status: RunStatus) -> RunStatus:
    temporary = run_dir / f".{STATUS_FILE}.{os.getpid()}-{threading.get_ident()}"
    temporary.write_text(json.dumps(dataclasses.asdict(status), indent=2) + "\n", encoding="utf-8")
    temporary.replace(run_dir / STATUS_FILE)
    return status


@contextmanager
def _locked(run_dir: Path) -> Iterator[None]:
    """Hold the lock between all processes of the run; it ends with its holder, so it cannot go stale.

    After a few seconds it goes on without: a stopped process must not keep the others from reporting.
    """
    run_dir.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(run_dir / _LOCK_FILE, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    try:
        deadline = time.monotonic() + _LOCK_TIMEOUT_SECONDS
        while time.monotonic() < deadline:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except OSError:
                time.sleep(0.005)
        yield
    finally:
        os.close(descriptor)
