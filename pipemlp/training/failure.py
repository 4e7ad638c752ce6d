"""End a process of a run that failed: the cause is said once, recorded once, and nobody waits for ever."""

import errno
import os
import sys
import time
import traceback
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

from pipemlp.config.errors import NotFiniteError, UserError
from pipemlp.launching.status import RunStatus, report_failure
from pipemlp.launching.waiting import answer_within
from pipemlp.training.output import Terminal

PEER_LEFT = (
    "Connection closed by peer",
    "Connection reset by peer",
    "Broken pipe",
    "Socket Timeout",
    "Timed out waiting",
    "timed out",
    "wait timeout",
    "recvValue failed",
    "Connection was likely closed",
    "NCCL communicator was aborted",
)
"""What torch says on a rank whose peer is gone."""
ONLY_NOTICED = ("PeerLostError", "ReplicaLostError")
"""Errors of a rank whose peer is gone; by name, as their modules load torch."""
OWN_CAUSE_SECONDS = 2.0
"""How long a rank that only noticed waits for the one that failed to say why."""
RECORDING_SECONDS = 15.0
"""How long a disk may take to record a failure; a lock on status.json is waited for up to five seconds, twice."""


def describe(error: BaseException) -> tuple[str, int, bool]:
    """Message, exit code, and whether the failure is this rank's own."""
    text = str(error)
    if type(error).__name__ in ONLY_NOTICED:
        return f"{text}; see its log in logs/", 6, False
    if isinstance(error, UserError):
        return text, error.exit_code, True
    if type(error).__name__ == "OutOfMemoryError" or "can't allocate memory" in text or isinstance(error, MemoryError):
        return (
            f"out of memory: {text.splitlines()[0] if text else 'no memory left'}; "
            "use more stages, more micro_batches, recompute, or a smaller global_batch_size",
            6,
            True,
        )
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
        where = f"{error.filename}: " if error.filename else ""
        return f"the disk is full: {where}{error.strerror}; make room, then go on with pipemlp resume", 6, True
    if isinstance(error, RuntimeError) and any(sign in text for sign in PEER_LEFT):
        return "another rank left or stopped answering; see its log in logs/", 6, False
    return f"{type(error).__name__}: {text}", 1, True


def fail(
    error: BaseException,
    *,
    terminal: Terminal,
    run_dir: Path | None,
    rank: int,
    who_is_gone: Callable[[], str] = lambda: "",
) -> NoReturn:
    """Say, record and leave; never returns. The traceback goes to the log.

    Args:
        error: why.
        who_is_gone: what is known of ranks that have died, asked where another's death may be the reason.
    """
    message, exit_code, own = describe(error)
    with suppress(OSError):  # the log is a file of the run, whose disk may be full
        traceback.print_exception(error)
    if not own and (gone := who_is_gone()):
        message = f"{gone}; {message}"
    cause = Cause(message, exit_code, own, comes_again=isinstance(error, NotFiniteError))
    end(cause, terminal=terminal, run_dir=run_dir, rank=rank, traced=exit_code == 1)


@dataclass(frozen=True)
class Cause:
    """Why a process ends.

    Args:
        message: for the user.
        exit_code: of the process, unless another failed first.
        own: whether this process failed, and has not only noticed another's failure.
        comes_again: whether it would fail in the same way from the same checkpoint.
    """

    message: str
    exit_code: int
    own: bool
    comes_again: bool = False


def end(cause: Cause, *, terminal: Terminal | None, run_dir: Path | None, rank: int, traced: bool = False) -> NoReturn:
    """Record a failure and leave, past threads and peers that would wait; never returns.

    The disk may be what does not answer: then it is only said.
    """
    exit_code, is_first = cause.exit_code, True
    if run_dir is not None:
        found = answer_within(RECORDING_SECONDS, lambda: _recorded(cause, run_dir))
        exit_code, is_first = found if found is not None else (exit_code, True)
    if is_first and terminal is not None:
        log = f" (traceback in {run_dir / 'logs' / f'rank-{rank}.log'})" if traced and run_dir is not None else ""
        terminal.print(f"rank {rank}: {cause.message}{log}")
    answer_within(RECORDING_SECONDS, _flush)
    os._exit(exit_code)


def _recorded(cause: Cause, run_dir: Path) -> tuple[int, bool]:
    """The exit code of the run, and whether it is of this cause, in status.json too."""
    try:
        status = _report(cause, run_dir)
        if not cause.own:  # recorded first: if the other was killed, the launcher soon kills this one
            time.sleep(OWN_CAUSE_SECONDS)
            status = _report(cause, run_dir)
    except OSError as error:
        with suppress(OSError):
            print(f"status.json could not be written: {error}", file=sys.stderr)
        return cause.exit_code, True
    return status.exit_code or cause.exit_code, status.pid == os.getpid() and status.message == cause.message


def _report(cause: Cause, run_dir: Path) -> RunStatus:
    return report_failure(run_dir, cause.message, cause.exit_code, cause.own, cause.comes_again)


def _flush() -> None:
    """The log, as far as its disk takes it."""
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError):
            stream.flush()
