"""The life of one worker process: watched, logged, and ended in order whatever happens."""

import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

from pipemlp.config.errors import UserError
from pipemlp.config.root import RunConfig
from pipemlp.launching.devices import device_of_run
from pipemlp.launching.environment import WorkerEnvironment
from pipemlp.launching.watch import handle_termination, watch_parents
from pipemlp.training.failure import end, fail
from pipemlp.training.output import Terminal
from pipemlp.training.run_directory import RUN_DIR_VARIABLE

Prepared = TypeVar("Prepared")

SAME_MISTAKE_SECONDS = 3.0
"""How long the other ranks wait with a mistake that rank 0 finds as well, and says."""


def begin_life(environment: WorkerEnvironment) -> "Life":
    """Watch for what should end this process, from now on."""
    given = os.environ.get(RUN_DIR_VARIABLE)
    life = Life(environment.rank, Path(given) if given else None)
    # a launcher ends the other ranks so when one has failed, and that one has said why
    handle_termination(lambda signum: life.leave(_ended(signum), 128 + signum, own=False, silent=True))
    watch_parents(lambda who: life.leave(who, 5, own=True))
    return life


def choose_device(config: RunConfig) -> str:
    """`cpu` or `cuda`; DeepSpeed takes it, and talks, when it is imported, which comes after this."""
    device = device_of_run(config.run.device)
    os.environ["DS_ACCELERATOR"] = device
    return device


def _ended(signum: int) -> str:
    return f"ended by signal {signum}: another rank failed first, or somebody stopped the run"


class Life:
    """What is known of this process when it has to leave."""

    def __init__(self, rank: int, run_dir: Path | None) -> None:
        self.rank = rank
        self.run_dir = run_dir
        self.terminal = Terminal()
        if run_dir is not None:
            self.learn_run_dir(run_dir)

    def learn_run_dir(self, run_dir: Path) -> None:
        """From now on the log is in its place, and a failure is recorded there."""
        self.run_dir = run_dir
        self.terminal.log_to(run_dir, self.rank)

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
            fail(error, terminal=self.terminal, run_dir=self.run_dir, rank=self.rank)

    def leave(self, message: str, exit_code: int, own: bool, silent: bool = False) -> None:
        """Record why, and end the process; `silent` keeps it from the terminal."""
        terminal = None if silent else self.terminal
        end(message, exit_code, own, terminal=terminal, run_dir=self.run_dir, rank=self.rank)
