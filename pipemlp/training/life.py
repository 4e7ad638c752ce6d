"""The life of one worker process: watched, logged, and ended in order whatever happens."""

import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TypeVar

from pipemlp.config.errors import ClusterError, RunFailedError, UserError
from pipemlp.config.root import RunConfig
from pipemlp.launching.devices import device_of_run
from pipemlp.launching.environment import WorkerEnvironment
from pipemlp.launching.outcome import preempted_at_start, stop_code, was_preempted_at_start
from pipemlp.launching.status import read_status, write_status
from pipemlp.launching.watch import a_sibling_is_gone, handle_termination, supervisor_has_died, watch_parents
from pipemlp.training.failure import Cause, end, fail
from pipemlp.training.output import Terminal
from pipemlp.training.run_directory import RUN_DIR_VARIABLE
from pipemlp.training.run_lock import is_held

Prepared = TypeVar("Prepared")

SIGNAL_SECONDS = 1.0
"""How long a process whose parent has died waits for the signal that may have killed the parent."""
SAME_MISTAKE_SECONDS = 3.0
"""How long the other ranks wait with a mistake that rank 0 finds as well, and says."""


def begin_life(environment: WorkerEnvironment) -> "Life":
    """Watch for what should end this process, from now on."""
    given = os.environ.get(RUN_DIR_VARIABLE)
    life = Life(environment.rank, Path(given) if given else None, environment.local_world_size)
    handle_termination(life.told_to_end)
    watch_parents(life.lost_parent)
    return life


def choose_device(config: RunConfig) -> str:
    """`cpu` or `cuda`; DeepSpeed takes it, and talks, when it is imported, which comes after this."""
    device = device_of_run(config.run.device)
    os.environ["DS_ACCELERATOR"] = device
    return device


def _ended(signum: int) -> str:
    return f"ended by signal {signum}: another rank failed first, or somebody stopped the run"


class Life:
    """What is known of this process when it has to leave.

    Args:
        rank: of all processes.
        run_dir: if it is known already.
        num_local_ranks: that the same launcher has started here.
    """

    def __init__(self, rank: int, run_dir: Path | None, num_local_ranks: int) -> None:
        self.rank = rank
        self.run_dir = run_dir
        self._num_local_ranks = num_local_ranks
        self._is_stopping = threading.Event()
        self.terminal = Terminal()
        self._ask: Callable[[int], None] | None = None
        self._patience_seconds = 0.0
        self._doing: Callable[[], str] = lambda: ""
        self.who_is_gone: Callable[[], str] = lambda: ""
        """What is known of other ranks that have died."""
        if run_dir is not None:
            self.learn_run_dir(run_dir)

    def learn_run_dir(self, run_dir: Path) -> None:
        """From now on the log is in its place, and a failure is recorded there."""
        self.run_dir = run_dir
        self.terminal.log_to(run_dir, self.rank)

    def stops_by(self, ask: Callable[[int], None], patience_seconds: float, doing: Callable[[], str]) -> None:
        """From now on a signal asks for a stop after which the run can go on.

        Args:
            ask: for the stop; told the signal.
            patience_seconds: after which this process ends all the same.
            doing: what this process is at, for that case.
        """
        self._patience_seconds, self._doing = patience_seconds, doing
        self._ask = ask

    def told_to_end(self, signum: int) -> None:
        """By a signal; a launcher ends the other ranks so too when one has failed, and that one has said why."""
        ask, self._ask = self._ask, None
        again = ask is None and self._patience_seconds > 0.0
        if ask is not None and self._is_left_at_start():
            os._exit(stop_code(signum))
        if again and signum != signal.SIGINT and not self._has_failed():
            return  # a launcher whose first rank is done tells the others
        if ask is None and not again and not self._has_failed():
            self._leave_before_the_first_step(signum)
        if ask is None or self._has_failed():
            self.leave(_ended(signum), 128 + signum, own=False, silent=True)
            return
        self._is_stopping.set()
        timer = threading.Timer(self._patience_seconds, self._give_up, [signum])
        timer.daemon = True
        timer.start()
        ask(signum)

    def _give_up(self, signum: int) -> None:
        """What was asked for takes too long."""
        name = signal.Signals(signum).name
        self.leave(
            f"told to stop by {name}, but could not save within {self._patience_seconds:.0f} s; last: {self._doing()}",
            130 if signum == signal.SIGINT else RunFailedError.exit_code,
            own=True,
        )

    def lost_parent(self, message: str) -> None:
        """A process above has died. Who stops a service signals all of its processes at once: then this one saves."""
        if not self._is_stopping.wait(SIGNAL_SECONDS):
            if self.run_dir is not None and supervisor_has_died() and is_held(self.run_dir):
                os._exit(ClusterError.exit_code)  # the next run is at work there already, whose status this is not
            self.leave(message, ClusterError.exit_code, own=True)

    def _leave_before_the_first_step(self, signum: int) -> None:
        """There is nothing to save. Returns if a rank beside this one is gone, for which its launcher ends all."""
        if self.run_dir is None:  # who knows it records the stop, and takes a rank that is gone by then for a failure
            time.sleep(SIGNAL_SECONDS)
        with suppress(ClusterError, OSError):
            status = None if self.run_dir is None else read_status(self.run_dir)
            if status is not None and status.state != "preempted" and a_sibling_is_gone(self._num_local_ranks):
                return
            if self.run_dir is not None:
                code = stop_code(signum)
                write_status(self.run_dir, "preempted", exit_code=code, message=preempted_at_start(signum))
                if self.rank == 0:
                    self.terminal.print(preempted_at_start(signum))
        os._exit(stop_code(signum))

    def _is_left_at_start(self) -> bool:
        """Whether another rank has left before its first step, without which this one can neither go on nor save."""
        with suppress(ClusterError):
            status = None if self.run_dir is None else read_status(self.run_dir)
            return status is not None and was_preempted_at_start(status)
        return False

    def _has_failed(self) -> bool:
        with suppress(ClusterError):
            status = None if self.run_dir is None else read_status(self.run_dir)
            return status is not None and status.state == "failed"
        return False

    def prepared(self, prepare: Callable[[], Prepared]) -> Prepared:
        """What `prepare` returns; a mistake of the user ends the process, and rank 0 says it."""
        try:
            return prepare()
        except UserError as error:
            if self.rank != 0:
                time.sleep(SAME_MISTAKE_SECONDS)
                os._exit(error.exit_code)
            fail(error, terminal=self.terminal, run_dir=self.run_dir, rank=0)

    @contextmanager
    def failing(self) -> Iterator[None]:
        """Whatever goes wrong inside is said, recorded, and ends the process."""
        try:
            yield
        except BaseException as error:
            fail(
                error,
                terminal=self.terminal,
                run_dir=self.run_dir,
                rank=self.rank,
                who_is_gone=self.who_is_gone,
            )

    def leave(self, message: str, exit_code: int, own: bool, silent: bool = False) -> None:
        """Record why, and end the process; `silent` keeps it from the terminal."""
        terminal = None if silent else self.terminal
        end(Cause(message, exit_code, own), terminal=terminal, run_dir=self.run_dir, rank=self.rank)
