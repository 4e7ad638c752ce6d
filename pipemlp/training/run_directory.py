"""The folder a run leaves behind: made once, never mixed with another run's."""

import json
import os
import platform
import sys
import time
from pathlib import Path

from pipemlp.config.errors import ConfigError
from pipemlp.config.files import replace_text
from pipemlp.config.root import RunConfig
from pipemlp.config.writing import write_config
from pipemlp.launching.status import write_status
from pipemlp.planning.plan import Plan
from pipemlp.planning.plan_file import PlanFile
from pipemlp.training.versions import package_version

RUN_DIR_VARIABLE = "PIPEMLP_RUN_DIR"
"""Set by `pipemlp train` for the workers it starts: the run directory is made already."""

CHECKPOINT_VARIABLE = "PIPEMLP_CHECKPOINT"
"""Likewise: the folder of the checkpoint from which the run goes on, which was found whole."""

CONFIG_FILE = "config.resolved.yaml"
PLAN_FILE = "plan.json"
METRICS_FILE = "metrics.jsonl"
PACKAGES = ("pipemlp", "torch", "deepspeed", "numpy", "pyarrow", "pydantic", "torchmetrics", "safetensors")


def run_name(config: RunConfig) -> str:
    """`run.name`, or the name of the config file."""
    if config.run.name != "auto":
        return config.run.name
    stem = config.source_path.stem if config.source_path is not None else "run"
    return stem.removesuffix(".resolved") or "run"


def create_run_directory(config: RunConfig) -> Path:
    """Make the folder, with a number appended to an automatic name that is taken.

    Raises:
        ConfigError: if `run.dir` is a file, holds something already, or cannot be made.
    """
    if config.run.dir == "auto":
        stem = Path("runs") / f"{run_name(config)}-{time.strftime('%Y%m%d-%H%M%S')}"
        for number in range(1, 1000):
            path = stem if number == 1 else stem.with_name(f"{stem.name}-{number}")
            if _made(config, path):
                return path.absolute()
    path = Path(config.run.dir).expanduser()
    if not _made(config, path):
        if not path.is_dir():
            raise ConfigError(_message(config, f"{path}: is a file; name a folder"))
        try:
            # what a run that was killed at its very beginning has left is hidden, as is its lock
            inside = sorted(entry.name for entry in path.iterdir() if not entry.name.startswith("."))
        except OSError as error:
            raise ConfigError(_message(config, f"{path}: cannot be read: {error.strerror}")) from error
        if inside:
            shown = ", ".join(inside[:3] + ["..."] * (len(inside) > 3))
            what = "holds another run" if CONFIG_FILE in inside else f"is not empty ({shown})"
            raise ConfigError(_message(config, f"{path}: {what}; name a new folder, or leave run.dir out"))
    return path.absolute()


def _made(config: RunConfig, path: Path) -> bool:
    try:
        path.mkdir(parents=True)
    except FileExistsError:
        return False
    except OSError as error:
        raise ConfigError(_message(config, f"{path}: cannot be made: {error.strerror}")) from error
    return True


def _message(config: RunConfig, text: str) -> str:
    where = config.where("run.dir")
    return f"{where}: run.dir: {text}" if where else f"run.dir: {text}"


def write_start(
    run_dir: Path, config: RunConfig, plan: Plan, planned: PlanFile | None = None, *, step: int = 0
) -> None:
    """Write what is known before the first step: configuration, plan, environment, status; each file in one step.

    `step` is the one after which the run goes on.

    The plan of a planned run is a plan file too. The configuration comes first: with it there is a run to resume.
    """
    write_config(
        config.model_copy(update={"run": config.run.model_copy(update={"dir": "auto"})}), run_dir / CONFIG_FILE
    )
    (run_dir / "logs").mkdir(exist_ok=True)
    if planned is None:
        _write_json(run_dir / PLAN_FILE, plan.to_json())
    else:
        replace_text(run_dir / PLAN_FILE, planned.to_text(plan.to_json()))
    _write_json(run_dir / "environment.json", environment(config))
    write_status(run_dir, "running", step=step, fresh=True)


def environment(config: RunConfig) -> dict[str, object]:
    """Versions and machine, for the record."""
    return {
        "python": platform.python_version(),
        "platform": platform.platform(),
        "host": platform.node(),
        "cpus": os.cpu_count(),
        "device": config.run.device,
        "packages": {name: package_version(name) for name in PACKAGES},
        "command": sys.argv,
        "started_at": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
    }


def _write_json(path: Path, value: object) -> None:
    replace_text(path, json.dumps(value, indent=1) + "\n")
