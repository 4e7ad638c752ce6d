"""From a config file to a run that can start: prepared, with its directory; no torch yet."""

import json
import os
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path

from pipemlp.config.loading import load_config
from pipemlp.config.root import RunConfig
from pipemlp.launching.devices import num_cores, num_gpus
from pipemlp.launching.environment import WorkerEnvironment
from pipemlp.launching.processes import check_processes, check_world_size
from pipemlp.schedule.torch_csv import write_csv
from pipemlp.training.preparation import Preparation, Progress, prepare_run
from pipemlp.training.run_directory import RUN_DIR_VARIABLE, create_run_directory, run_name, write_start


def resolve_machine(preparation: Preparation, num_local_ranks: int) -> Preparation:
    """Replace `auto` in section `run` by what this machine has.

    Raises:
        ClusterError: if there are fewer GPUs than processes on this machine.
    """
    run = preparation.config.run
    gpus = num_gpus()
    device = run.device if run.device != "auto" else "cuda" if gpus else "cpu"
    check_processes(num_local_ranks, gpus, device)
    threads = run.threads if run.threads != "auto" else max(1, num_cores() // num_local_ranks)
    section = run.model_copy(update={"device": device, "threads": threads, "name": run_name(preparation.config)})
    return replace(preparation, config=preparation.config.model_copy(update={"run": section}))


def prepare_locally(config: RunConfig, progress: Progress | None = None) -> Preparation:
    """Prepare a run whose processes all start on this machine."""
    preparation = prepare_run(config, progress)
    return resolve_machine(preparation, preparation.plan.num_ranks)


def begin(preparation: Preparation) -> Path:
    """Make the run's directory, with what is known before the first step; last, when nothing speaks against it."""
    run_dir = create_run_directory(preparation.config)
    write_start(run_dir, preparation.config, preparation.plan)
    return run_dir


def prepare_first_worker(
    config_path: Path, overrides: Sequence[str], environment: WorkerEnvironment
) -> tuple[Preparation, Path]:
    """What rank 0 does before it meets the others; the run directory may be there already."""
    given = os.environ.get(RUN_DIR_VARIABLE)
    preparation = prepare_run(load_config(config_path, overrides))
    check_world_size(environment.world_size, preparation.plan.num_stages, preparation.plan.num_replicas)
    preparation = resolve_machine(preparation, environment.local_world_size)
    return preparation, begin(preparation) if given is None else Path(given)


def check_other_worker(config_path: Path, overrides: Sequence[str], environment: WorkerEnvironment) -> RunConfig:
    """What the other ranks check before they meet rank 0: the file alone."""
    config = load_config(config_path, overrides)
    check_world_size(environment.world_size, config.parallel.stages, config.parallel.data_parallel)
    return config


def message_to_others(preparation: Preparation, run_dir: Path) -> str:
    """What rank 0 tells the other ranks, as JSON."""
    return json.dumps(
        {
            "config": preparation.config.model_dump(mode="json"),
            "preprocessing": preparation.data.preprocessing.to_json(),
            "shape": asdict(preparation.data.shape),
            "content": preparation.data.content,
            "schedule": write_csv(preparation.plan.schedule),
            "run_dir": str(run_dir),
        }
    )
