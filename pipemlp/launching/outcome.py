"""From how a launcher ended, and what the workers reported, to the exit code of the run and its last status."""

import signal
from dataclasses import dataclass, replace
from pathlib import Path

from pipemlp.launching.status import STATUS_FILE, RunStatus, read_status, report_failure, write_status
from pipemlp.launching.telling import tell

PREEMPTED_EXIT_CODE = 75
_INTERRUPTED = 130
_RUN_FAILED_EXIT_CODE = 6
_CLUSTER_EXIT_CODE = 5
_PROMISED_FAILURES = range(2, 7)  # user, data, checkpoint, cluster, run
_LARGEST_SIGNAL = 64
_FIRST_SIGNAL = 128
"""Exit codes from here on are those of processes that a signal has ended."""


@dataclass(frozen=True)
class Outcome:
    """How the launcher ended: its exit code (negative for a signal, None when it had to be killed), the first signal
    that we were sent, whether workers outlived it, and whether any worker had started."""

    launcher_exit_code: int | None
    signum: int | None
    workers_outlived_it: bool
    workers_had_started: bool


def conclude(run_dir: Path, before: RunStatus | None, outcome: Outcome) -> int:
    """The exit code of the run; a run that did not report its own end is recorded as failed.

    `before` is the status that was there before the launcher started: unchanged, it belongs to an earlier run.
    """
    status = read_status(run_dir)
    unreported = status is None or status == before
    # Only workers write a status: whoever did has started, even when nobody saw it.
    outcome = replace(outcome, workers_had_started=outcome.workers_had_started or not unreported)
    if unreported and outcome.signum is not None and before is not None and before.state == "running":
        return _preempt(run_dir, before.step, outcome.signum)
    message, exit_code = _explain(outcome)
    if status is None or unreported:
        if before is None or before.state != "finished":  # A finished model stays finished when nothing touched it.
            _record(run_dir, message, exit_code, earlier=before)
        return exit_code
    if status.state == "finished":
        return 0
    if status.state == "preempted":
        return PREEMPTED_EXIT_CODE if status.exit_code is None else status.exit_code
    if status.state == "failed":
        was_ended = (status.exit_code or 0) >= _FIRST_SIGNAL
        if not status.own and (outcome.signum is not None or _killed_rank(outcome) is not None or was_ended):
            # Others only saw a peer leave, or were ended by a signal in turn; here it is known why, or at least said.
            seen = "" if was_ended else f" ({status.message.split('; see ')[0]})"
            _record(run_dir, message + seen, exit_code)
            return exit_code
        return status.exit_code or _RUN_FAILED_EXIT_CODE
    _record(run_dir, message, exit_code)
    return exit_code


_AT_START = "before the first step; `pipemlp resume` goes on"


def stop_code(signum: int) -> int:
    """The exit code of a run that a signal stopped: run me again, or interrupted by its user."""
    return _INTERRUPTED if signum == signal.SIGINT else PREEMPTED_EXIT_CODE


def preempted_at_start(signum: int) -> str:
    """What to say of a run that was told to stop when it had not begun to train: nothing of it is lost."""
    return f"stopped by {signal.Signals(signum).name} {_AT_START}"


def was_preempted_at_start(status: RunStatus) -> bool:
    """Whether a process has left so: whatever the others have begun, they wait for it in vain."""
    return status.state == "preempted" and status.message.endswith(_AT_START)


def _preempt(run_dir: Path, step: int, signum: int) -> int:
    """Record that nobody had anything to save when the signal came: no worker has written since the run was begun."""
    message, exit_code = preempted_at_start(signum), stop_code(signum)
    tell(message, as_error=True)
    try:
        write_status(run_dir, "preempted", step=step, exit_code=exit_code, message=message, fresh=True)
    except OSError as error:
        tell(f"{run_dir}: cannot write {STATUS_FILE} ({error.strerror})", as_error=True)
    return exit_code


def _record(run_dir: Path, message: str, exit_code: int, *, earlier: RunStatus | None = None) -> None:
    """Write the failure and print it: no worker lived to say it. `earlier` is what an earlier run left behind."""
    tell(message, as_error=True)
    try:
        if earlier is not None:
            write_status(run_dir, "running", step=earlier.step, fresh=True)
        report_failure(run_dir, message, exit_code, own=True)
    except OSError as error:
        tell(f"{run_dir}: cannot write {STATUS_FILE} ({error.strerror})", as_error=True)


def _explain(outcome: Outcome) -> tuple[str, int]:
    """What to tell the user, and the exit code, where no worker said how the run ended."""
    code = outcome.launcher_exit_code
    if outcome.signum is not None:
        code = stop_code(outcome.signum)  # of a run that could not save
        message = f"stopped by {_signal_name(outcome.signum)} before the run finished"
        return message, code if code == _INTERRUPTED else _RUN_FAILED_EXIT_CODE
    if outcome.workers_outlived_it or (code is not None and code < 0):
        message = f"the launcher died ({_ending(code)}) before the run finished; its processes were ended"
        return message, _CLUSTER_EXIT_CODE
    promised = code if code in _PROMISED_FAILURES else None
    if not outcome.workers_had_started:
        return f"the launcher ended ({_ending(code)}) before any process started", promised or _CLUSTER_EXIT_CODE
    killed_by = _killed_rank(outcome)
    if killed_by is not None:
        hint = "; the machine may have run out of memory" if killed_by == signal.SIGKILL else ""
        return f"a rank was killed by {_signal_name(killed_by)}{hint}; see logs/", _RUN_FAILED_EXIT_CODE
    return f"the launcher ended ({_ending(code)}) before the run finished; see logs/", promised or _RUN_FAILED_EXIT_CODE


def _killed_rank(outcome: Outcome) -> int | None:
    """The signal that ended a rank: launch.py passes its negative return code on, and the system keeps 8 bits of it."""
    code = outcome.launcher_exit_code
    if code is None or outcome.workers_outlived_it or not 256 - _LARGEST_SIGNAL <= code <= 255:
        return None
    return 256 - code


def _ending(code: int | None) -> str:
    if code is None:
        return "it did not end by itself"
    return f"exit code {code}" if code >= 0 else f"killed by {_signal_name(-code)}"


def _signal_name(signum: int) -> str:
    try:
        return f"signal {signum} ({signal.Signals(signum).name})"
    except ValueError:
        return f"signal {signum}"
