"""From a config file to a run that can start: prepared, with its directory; no torch yet."""

import json
import os
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path

from pipemlp.config.errors import ConfigError
from pipemlp.config.loading import load_config
from pipemlp.config.origin import parse_key
from pipemlp.config.root import RunConfig
from pipemlp.launching.devices import device_of_run, num_cores, num_gpus
from pipemlp.launching.environment import WorkerEnvironment
from pipemlp.launching.processes import check_processes, check_world_size
from pipemlp.planning.plan_file import PlanFile, parse_plan_file
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
    device = device_of_run(run.device)
    check_processes(num_local_ranks, gpus, device)
    threads = run.threads if run.threads != "auto" else max(1, num_cores() // num_local_ranks)
    section = run.model_copy(update={"device": device, "threads": threads, "name": run_name(preparation.config)})
    return replace(preparation, config=preparation.config.model_copy(update={"run": section}))


def prepare_locally(
    config: RunConfig, progress: Progress | None = None, planned: PlanFile | None = None
) -> Preparation:
    """Prepare a run whose processes all start on this machine."""
    preparation = prepare_run(config, progress, planned)
    return resolve_machine(preparation, preparation.plan.num_ranks)


def begin(preparation: Preparation) -> Path:
    """Make the run's directory, with what is known before the first step; last, when nothing speaks against it."""
    run_dir = create_run_directory(preparation.config)
    write_start(run_dir, preparation.config, preparation.plan, preparation.planned)
    return run_dir


def prepare_first_worker(
    config_path: Path, overrides: Sequence[str], environment: WorkerEnvironment, plan_path: Path | None = None
) -> tuple[Preparation, Path]:
    """What rank 0 does before it meets the others; the run directory may be there already."""
    given = os.environ.get(RUN_DIR_VARIABLE)
    planned = read_plan_file(plan_path) if plan_path is not None else None
    config = load_config(config_path, overrides)
    preparation = prepare_run(config, planned=planned, num_ranks=environment.world_size)
    plan = preparation.plan
    check_world_size(environment.world_size, plan.num_stages, plan.num_replicas, plan_path)
    preparation = resolve_machine(preparation, environment.local_world_size)
    return preparation, begin(preparation) if given is None else Path(given)


def check_other_worker(
    config_path: Path, overrides: Sequence[str], environment: WorkerEnvironment, plan_path: Path | None = None
) -> RunConfig:
    """What the other ranks check before they meet rank 0: the files alone."""
    config = load_config(config_path, overrides)
    if plan_path is not None or config.parallel != "auto":  # a plan fits as many processes as there are
        parallel = config.chosen_parallel if plan_path is None else read_plan_file(plan_path).parallel
        check_world_size(environment.world_size, parallel.stages, parallel.data_parallel, plan_path)
    return config


def check_overrides(overrides: Sequence[str], plan_path: Path | None) -> None:
    """Refuse what would have no effect beside a plan.

    Raises:
        ConfigError: naming it.
    """
    idle = [override for override in overrides if decides_parallel(override)]
    if plan_path is not None and idle:
        raise ConfigError(f"--plan: {plan_path}: the plan decides parallel; leave out {' '.join(idle)}, or the plan")


def decides_parallel(override: str) -> bool:
    """Whether it is of the section that a plan replaces."""
    return parse_key(override.partition("=")[0])[:1] == ("parallel",)


def read_plan_file(path: Path) -> PlanFile:
    """The plan in a file.

    Raises:
        ConfigError: if it cannot be read, or is none.
    """
    try:
        return replace(parse_plan_file(path.read_text(encoding="utf-8", errors="replace")), file=str(path))
    except FileNotFoundError as error:
        raise ConfigError(f"--plan: {path}: no such file; `pipemlp plan CONFIG --output {path}` makes it") from error
    except OSError as error:
        raise ConfigError(f"--plan: {path}: cannot be read: {error.strerror or error}") from error
    except ValueError as error:
        raise ConfigError(f"--plan: {path}: {error}") from error


def message_to_others(preparation: Preparation, run_dir: Path) -> str:
    """What rank 0 tells the other ranks, as JSON."""
    return json.dumps(
        {
            "config": preparation.config.model_dump(mode="json"),
            "preprocessing": preparation.data.preprocessing.to_json(),
            "shape": asdict(preparation.data.shape),
            "content": preparation.data.content,
            "schedule": write_csv(preparation.plan.schedule),
            "costs": asdict(preparation.plan.costs) if preparation.plan.costs is not None else None,
            "prediction": asdict(preparation.plan.prediction) if preparation.plan.prediction is not None else None,
            "run_dir": str(run_dir),
        }
    )
