"""From a config file to a run that can start: prepared, with its directory; no torch yet."""

import json
import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from pipemlp.config.errors import ConfigError
from pipemlp.config.loading import load_config
from pipemlp.config.origin import parse_key
from pipemlp.config.root import RunConfig
from pipemlp.launching.devices import device_of_run, num_cores, num_gpus
from pipemlp.launching.environment import WorkerEnvironment
from pipemlp.launching.processes import check_processes, check_world_size
from pipemlp.planning.fingerprint import fingerprint_of
from pipemlp.planning.plan_file import PlanFile, parse_plan_file
from pipemlp.schedule.torch_csv import write_csv
from pipemlp.training.preparation import Preparation, Progress, prepare_run
from pipemlp.training.resuming import find_resumption, holds_run, refuse_checkpoint, tidy
from pipemlp.training.run_directory import (
    CHECKPOINT_VARIABLE,
    RUN_DIR_VARIABLE,
    create_run_directory,
    run_name,
    write_start,
)
from pipemlp.training.run_lock import RunLock


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


@dataclass(frozen=True)
class Begun:
    """A run that is about to start.

    Args:
        preparation: of it.
        run_dir: made.
        checkpoint: the folder of the one from which it goes on; None if it begins anew.
        notes: for the user.
        lock: on the run's directory; None where the process that started this one holds it.
    """

    preparation: Preparation
    run_dir: Path
    checkpoint: Path | None = None
    notes: tuple[str, ...] = ()
    lock: RunLock | None = None


def begin(preparation: Preparation, *notes: str) -> Begun:
    """Make the run's directory, with what is known before the first step; last, when nothing speaks against it."""
    run_dir = create_run_directory(preparation.config)
    lock = RunLock(run_dir)
    write_start(run_dir, preparation.config, preparation.plan, preparation.planned)
    return Begun(preparation, run_dir, notes=notes, lock=lock)


def begin_or_resume(preparation: Preparation) -> Begun:
    """Go on with the run in `run.dir`; if there is none, begin it.

    Raises:
        ConfigError: if `run.dir` is not given, holds another run, or one that is going on.
        ModelFileError: if no checkpoint there is whole, or those that there were are gone.
    """
    config = preparation.config
    if config.run.dir == "auto":
        raise ConfigError("--resume auto: run.dir is not set; name the folder in which the run is to be found again")
    run_dir = Path(config.run.dir).expanduser().absolute()
    refuse_checkpoint(run_dir)
    if not holds_run(run_dir):
        return begin(preparation, "no run yet: it begins")
    lock = RunLock(run_dir)
    try:
        return _resumed(preparation, run_dir, lock)
    except BaseException:
        lock.release()
        raise


def _resumed(preparation: Preparation, run_dir: Path, lock: RunLock) -> Begun:
    config = preparation.config
    resumption = find_resumption(config, run_dir, preparation.data.content, fingerprint_of(preparation.layers))
    step = 0 if resumption.checkpoint is None else resumption.checkpoint.manifest.step
    kept = tidy(run_dir, step)
    write_start(run_dir, config, preparation.plan, preparation.planned, step=step)
    directory = None if resumption.checkpoint is None else resumption.checkpoint.directory
    return Begun(preparation, run_dir, directory, (*resumption.notes(), *kept), lock)


def prepare_first_worker(
    config_path: Path,
    overrides: Sequence[str],
    environment: WorkerEnvironment,
    plan_path: Path | None = None,
    *,
    resume: bool = False,
) -> Begun:
    """What rank 0 does before it meets the others; the run directory may be there already."""
    given = os.environ.get(RUN_DIR_VARIABLE)
    planned = read_plan_file(plan_path) if plan_path is not None else None
    config = load_config(config_path, overrides)
    preparation = prepare_run(config, planned=planned, num_ranks=environment.world_size)
    plan = preparation.plan
    check_world_size(environment.world_size, plan.num_stages, plan.num_replicas, plan_path)
    preparation = resolve_machine(preparation, environment.local_world_size)
    if given is not None:
        checkpoint = os.environ.get(CHECKPOINT_VARIABLE)
        return Begun(preparation, Path(given), Path(checkpoint) if checkpoint else None)
    return begin_or_resume(preparation) if resume else begin(preparation)


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


def message_to_others(begun: Begun) -> str:
    """What rank 0 tells the other ranks, as JSON."""
    preparation = begun.preparation
    return json.dumps(
        {
            "config": preparation.config.model_dump(mode="json"),
            "preprocessing": preparation.data.preprocessing.to_json(),
            "shape": asdict(preparation.data.shape),
            "content": preparation.data.content,
            "schedule": write_csv(preparation.plan.schedule),
            "costs": asdict(preparation.plan.costs) if preparation.plan.costs is not None else None,
            "prediction": asdict(preparation.plan.prediction) if preparation.plan.prediction is not None else None,
            "run_dir": str(begun.run_dir),
            "checkpoint": None if begun.checkpoint is None else str(begun.checkpoint),
        }
    )
