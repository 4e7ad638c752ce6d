"""Start a launcher, pass signals on to its workers, leave no process behind, and tell how the run ended."""

import math
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType

import psutil

from pipemlp.config.errors import ClusterError, RunFailedError
from pipemlp.launching.environment import SUPERVISOR_PID
from pipemlp.launching.outcome import Outcome, conclude, stop_code
from pipemlp.launching.process_tree import ProcessTree
from pipemlp.launching.status import RunStatus, read_status
from pipemlp.launching.telling import tell
from pipemlp.launching.waiting import answer_within
from pipemlp.launching.watch import STOP_SIGNALS

_POLL_SECONDS = 0.25
_DISK_SECONDS, _CONCLUDING_SECONDS = 5.0, 30.0
"""How long a file of the run may take to be read, and the end of the run to be recorded."""


def run_launcher(
    command: Sequence[str],
    run_dir: Path,
    environment: Mapping[str, str],
    grace_seconds: float = 10.0,
    output: int | None = None,
    saving_seconds: float | None = None,
    caught: list[int] | None = None,
) -> int:
    """Run a launcher to its end and return the exit code of the run, as `status.json` in `run_dir` tells it.

    The first SIGINT, SIGTERM, SIGUSR1 or SIGHUP goes to the workers, who then have `saving_seconds` to end (as long as
    `grace_seconds` where left out); a second SIGINT kills at once. Workers that outlive their launcher have
    `grace_seconds`, or what is left of `saving_seconds`. So have those that outlive the first failure told in
    `status.json`: launch.py would wait half a minute for one that is stopped. `environment` is the launcher's whole
    environment; `output`, a file descriptor, takes what it and the workers print (this process's own where left out);
    `caught` is given by who catches signals already (`caught_signals`). When this returns, no process of the launcher
    lives, and a run that did not report its end is recorded as failed.

        supervisor (this process)
          runner        ends early when launch.py is killed, with exit code 0; dies alone by a signal
            launch.py   ends the other workers when one ends with a code above 0; dies alone by SIGKILL
              workers   write status.json; watch the processes above them

    Raises ClusterError when the command cannot be started or `status.json` is damaged.
    """
    before = read_status(run_dir)
    with caught_signals() if caught is None else nullcontext(caught) as received:
        process = _start(command, environment, output)
        tree = ProcessTree(process.pid)
        try:
            patience = grace_seconds, saving_seconds or grace_seconds
            outcome = _Supervision(process, tree, received, lambda: _has_failed(run_dir, before), *patience).run()
        finally:
            tree.kill()
            process.wait()
    code = answer_within(_CONCLUDING_SECONDS, lambda: conclude(run_dir, before, outcome))
    if code is None:
        tell(f"{run_dir}: the disk does not answer; how the run ended is not recorded", as_error=True)
        return RunFailedError.exit_code
    return code


def _has_failed(run_dir: Path, before: RunStatus | None) -> bool:
    """Whether a process of this run has told a failure; a disk that does not answer has told none."""
    try:
        status = answer_within(_DISK_SECONDS, lambda: read_status(run_dir))
    except ClusterError:  # which is said at the end
        return False
    return status is not None and status != before and status.state == "failed"


@dataclass
class _Supervision:
    process: subprocess.Popen[bytes]
    tree: ProcessTree
    caught: list[int]
    has_failed: Callable[[], bool]
    grace_seconds: float
    saving_seconds: float
    num_handled: int = 0
    deadline: float = field(default=math.inf)

    def run(self) -> Outcome:
        """Wait until the launcher has ended, or has to be killed."""
        while self.process.poll() is None:
            self.tree.update()
            if self._must_kill():
                break
            self._wait()
        self.tree.update()
        exit_code = self.process.poll()
        outlived = exit_code is not None and bool(self.tree.workers())
        self._wait_for_survivors()
        signum = self.caught[0] if self.caught else None
        return Outcome(exit_code, signum, outlived, self.tree.has_seen_workers)

    def _wait_for_survivors(self) -> None:
        """Workers that outlive their launcher notice it, and write what happened, before they are killed."""
        patience = self.saving_seconds if self.caught else self.grace_seconds
        self.deadline = min(self.deadline, time.monotonic() + patience)
        while self.tree.workers() and not self._must_kill():
            time.sleep(0.05)
            self.tree.update()

    def _must_kill(self) -> bool:
        """Pass new signals on to the workers; True when there is nothing left to wait for."""
        new = self.caught[self.num_handled :]
        self.num_handled += len(new)
        if self.caught[1:].count(signal.SIGINT) > 0:
            return True
        workers = self.tree.workers()
        if new and not workers:
            return True  # The launcher is still starting: nobody has anything to save.
        for signum in new:
            for worker in workers:
                try:
                    worker.send_signal(signum)
                except psutil.Error:
                    continue
        if new:
            self.deadline = min(self.deadline, time.monotonic() + self.saving_seconds)
        if self.deadline == math.inf and self.has_failed():
            self.deadline = time.monotonic() + self.grace_seconds
        return time.monotonic() >= self.deadline

    def _wait(self) -> None:
        try:
            self.process.wait(timeout=_POLL_SECONDS)
        except subprocess.TimeoutExpired:
            return


def _start(command: Sequence[str], environment: Mapping[str, str], output: int | None) -> subprocess.Popen[bytes]:
    """Start the launcher in its own session, so that a terminal's signals reach it only through us."""
    try:
        return subprocess.Popen(
            command,
            env={**environment, SUPERVISOR_PID: str(os.getpid())},
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=None if output is None else subprocess.STDOUT,
            start_new_session=True,
        )
    except OSError as error:
        raise ClusterError(f"cannot start the launcher {command[0]}: {error.strerror}") from error


@contextmanager
def ending_at_once() -> Iterator[None]:
    """While nothing has begun, a signal to stop ends this process with the promised code: there is nothing to save.

    SIGINT stays what it is in Python; outside the main thread nothing can be done.
    """

    def end(signum: int, _: FrameType | None) -> None:
        print(f"stopped by {signal.Signals(signum).name} before the run began; run it again", file=sys.stderr)
        raise SystemExit(stop_code(signum))

    with handled({signum: end for signum in STOP_SIGNALS if signum != signal.SIGINT}):
        yield


Handler = Callable[[int, FrameType | None], None]


@contextmanager
def handled(handlers: Mapping[signal.Signals, Handler]) -> Iterator[None]:
    """With these handlers for a while, but for signals that are ignored; outside the main thread without."""
    previous = {}
    if threading.current_thread() is threading.main_thread():
        taken = {signum: own for signum, own in handlers.items() if signal.getsignal(signum) is not signal.SIG_IGN}
        previous = {signum: signal.signal(signum, own) for signum, own in taken.items()}
    try:
        yield
    finally:
        for signum, handler in previous.items():
            signal.signal(signum, signal.SIG_DFL if handler is None else handler)


@contextmanager
def caught_signals() -> Iterator[list[int]]:
    """Collect stop signals instead of obeying them, in order; outside the main thread none can be caught."""
    caught: list[int] = []

    def catch(signum: int, _: FrameType | None) -> None:
        caught.append(signum)

    with handled(dict.fromkeys(STOP_SIGNALS, catch)):
        yield caught
