"""The life of one worker process: watched, logged, and ended in order whatever happens."""

import os
import time
from collections.abc import Sequence
from pathlib import Path

from pipemlp.config.errors import UserError
from pipemlp.launching.devices import num_gpus
from pipemlp.launching.environment import WorkerEnvironment
from pipemlp.launching.ports import check_port
from pipemlp.launching.watch import handle_termination, watch_parents
from pipemlp.training.failure import end, fail
from pipemlp.training.output import Terminal
from pipemlp.training.run_directory import RUN_DIR_VARIABLE
from pipemlp.training.startup import check_other_worker, prepare_first_worker

SAME_MISTAKE_SECONDS = 3.0
"""How long the other ranks wait with a mistake that rank 0 finds as well, and says."""


def work(config_path: Path, overrides: Sequence[str], environment: WorkerEnvironment) -> None:
    """Be one rank of a run; ends the process."""
    given = os.environ.get(RUN_DIR_VARIABLE)
    life = _Life(environment.rank, Path(given) if given else None)
    # a launcher ends the other ranks so when one has failed, and that one has said why
    handle_termination(lambda signum: life.leave(_ended(signum), 128 + signum, own=False, silent=True))
    watch_parents(lambda who: life.leave(who, 5, own=True))
    try:
        if environment.rank == 0:
            if "TORCHELASTIC_RUN_ID" not in os.environ:  # torchrun's agent holds the port itself
                check_port(environment.master_addr, environment.master_port)
            prepared = prepare_first_worker(config_path, overrides, environment)
            life.learn_run_dir(prepared[1])
            config = prepared[0].config
        else:
            prepared = None
            config = check_other_worker(config_path, overrides, environment)
    except UserError as error:
        if environment.rank != 0:
            time.sleep(SAME_MISTAKE_SECONDS)
            os._exit(error.exit_code)
        fail(error, terminal=life.terminal, run_dir=life.run_dir, rank=0)
    try:
        # DeepSpeed chooses its device, and talks, when it is imported
        device = config.run.device if config.run.device != "auto" else "cuda" if num_gpus() else "cpu"
        os.environ["DS_ACCELERATOR"] = device
        from pipemlp.training.worker import run_worker

        timeout_seconds = config.fault.timeout_seconds
        run_worker(prepared, environment, device, timeout_seconds, life.terminal.file, life.learn_run_dir)
    except BaseException as error:
        fail(error, terminal=life.terminal, run_dir=life.run_dir, rank=environment.rank)
    os._exit(0)


def _ended(signum: int) -> str:
    return f"ended by signal {signum}: another rank failed first, or somebody stopped the run"


class _Life:
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

    def leave(self, message: str, exit_code: int, own: bool, silent: bool = False) -> None:
        terminal = None if silent else self.terminal
        end(message, exit_code, own, terminal=terminal, run_dir=self.run_dir, rank=self.rank)
