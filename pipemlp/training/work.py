"""One rank of a training run: it prepares, meets the others, trains."""

import os
from collections.abc import Sequence
from pathlib import Path

from pipemlp.config.root import RunConfig
from pipemlp.launching.environment import WorkerEnvironment
from pipemlp.launching.ports import check_port
from pipemlp.training.life import begin_life, choose_device
from pipemlp.training.startup import Begun, check_other_worker, prepare_first_worker


def work(
    config_path: Path,
    overrides: Sequence[str],
    environment: WorkerEnvironment,
    plan_path: Path | None = None,
    *,
    resume: bool = False,
) -> None:
    """Be one rank of a run; ends the process."""
    life = begin_life(environment)

    def prepare() -> tuple[RunConfig, Begun | None]:
        if environment.rank != 0:
            return check_other_worker(config_path, overrides, environment, plan_path), None
        check_own_port(environment)
        begun = prepare_first_worker(config_path, overrides, environment, plan_path, resume=resume)
        life.learn_run_dir(begun.run_dir)
        for note in begun.notes:
            life.terminal.print(note)
        return begun.preparation.config, begun

    config, begun = life.prepared(prepare)
    with life.failing():
        device = choose_device(config)
        choose_algorithm(config.gradients.pattern)
        from pipemlp.training.worker import run_worker

        exit_code = run_worker(begun, environment, device, config.fault.timeout_seconds, life)
    os._exit(exit_code)


def choose_algorithm(pattern: str) -> None:
    """Have NCCL sum by this pattern, if it is one of its own; it reads this once, before the ranks meet."""
    if pattern in ("ring", "tree"):
        os.environ.setdefault("NCCL_ALGO", f"allreduce:{pattern}")


def check_own_port(environment: WorkerEnvironment) -> None:
    """Rank 0: the port where the ranks meet must be free, unless torchrun's agent holds it itself."""
    if "TORCHELASTIC_RUN_ID" not in os.environ:
        check_port(environment.master_addr, environment.master_port)
