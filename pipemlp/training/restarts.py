"""`fault.restarts`: a run that died goes on from its newest whole checkpoint, so many times, after a pause."""

import signal
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from pipemlp.checkpoint.folder import FOLDER, newest_to_go_on
from pipemlp.config.errors import ClusterError, ModelFileError, RunFailedError
from pipemlp.launching.outcome import stop_code
from pipemlp.launching.status import read_status, write_status
from pipemlp.training.resuming import tidy
from pipemlp.training.vanished import refuse_vanished

RESTARTED = (1, ClusterError.exit_code, RunFailedError.exit_code)
"""Exit codes after which another try may go better: not a wrong configuration, not a stop that was asked for."""
FIRST_PAUSE_SECONDS, LONGEST_PAUSE_SECONDS = 2.0, 300.0
POLL_SECONDS = 0.1


def run_with_restarts(
    start: Callable[[Path | None], int],
    run_dir: Path,
    checkpoint: Path | None,
    num_restarts: int,
    caught: Sequence[int] = (),
) -> int:
    """Start the processes, again where they died; returns the last exit code.

    Args:
        start: runs them once, from a checkpoint or from the beginning.
        run_dir: of the run.
        checkpoint: from which it goes on the first time.
        num_restarts: at most.
        caught: signals by which somebody asks this process for a stop; it fills while we wait.

    Numbers that were lost twice in the same place are lost again: then there is no third time.

    Raises:
        ModelFileError: if there are checkpoints, but none is whole any more, or there were some.
    """
    pause, before = FIRST_PAUSE_SECONDS, None
    for attempt in range(num_restarts + 1):
        exit_code = start(checkpoint)
        if exit_code not in RESTARTED or attempt == num_restarts or caught:
            return exit_code
        status = read_status(run_dir)
        if status is not None and status.comes_again and status.message == before:
            print(f"no restart {attempt + 1} of {num_restarts}: it would fail in the same way again", flush=True)
            return exit_code
        before = None if status is None else status.message
        try:
            found, passed = newest_to_go_on(run_dir / FOLDER)
            if found is None:
                refuse_vanished(run_dir)
        except ModelFileError as error:
            write_status(run_dir, "failed", exit_code=error.exit_code, message=str(error), fresh=True)
            raise
        for each in passed:
            print(each.warning())
        step = 0 if found is None else found.manifest.step
        checkpoint = None if found is None else found.directory
        where = f"after step {step}" if step else "at the beginning"
        print(
            f"restart {attempt + 1} of {num_restarts} in {pause:.0f} s, {where}: "
            f"{status.message if status else 'the run died'}",
            flush=True,
        )
        if not _passes(pause, caught):
            return _stopped(run_dir, step, caught[0])
        pause = min(2 * pause, LONGEST_PAUSE_SECONDS)
        for kept in tidy(run_dir, step):
            print(kept, flush=True)
        write_status(run_dir, "running", step=step, fresh=True)
    raise AssertionError("unreachable")


def _passes(pause: float, caught: Sequence[int]) -> bool:
    """Wait; whether nobody asked for a stop meanwhile."""
    deadline = time.monotonic() + pause
    while not caught and time.monotonic() < deadline:
        time.sleep(POLL_SECONDS)
    return not caught


def _stopped(run_dir: Path, step: int, signum: int) -> int:
    """Told to stop while no process of the run lives: a later resume begins where the restart would have."""
    message = f"stopped by {signal.Signals(signum).name} before a restart after step {step}; pipemlp resume {run_dir}"
    print(message, flush=True)
    write_status(run_dir, "preempted", step=step, exit_code=stop_code(signum), message=message, fresh=True)
    return stop_code(signum)
