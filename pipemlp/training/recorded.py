"""What a run has recorded of its steps, and what its plan predicted of them, read from its directory."""

import json
from dataclasses import fields
from pathlib import Path
from typing import Any

from pipemlp.config.errors import ConfigError, DataError
from pipemlp.schedule.costs import Costs
from pipemlp.schedule.measured import MeasuredStep, read_timeline
from pipemlp.training.run_directory import PLAN_FILE

TIMELINE_FILE = "timeline.json"


def recorded_steps(run_dir: Path) -> tuple[tuple[MeasuredStep, ...], ...]:
    """The recorded steps in order, each with all its replicas.

    Raises:
        ConfigError: if there are none.
        DataError: if the file is damaged.
    """
    path = run_dir / TIMELINE_FILE
    if not path.is_file():
        raise ConfigError(
            f"{run_dir}: no timeline was recorded: logging.timeline_every_steps is 0, or the run has not come to a "
            "tenth of it; train with logging.timeline_every_steps=1, or 10 for every tenth step"
        )
    try:
        return read_timeline(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise DataError(f"{path}: {error}") from error


def planned_costs(run_dir: Path) -> Costs:
    """The costs of the schedule's actions by which the run was planned.

    Raises:
        DataError: if plan.json is missing or damaged.
    """
    path = run_dir / PLAN_FILE
    try:
        costs = json.loads(path.read_text(encoding="utf-8"))["costs"]
        known = {field.name: costs[field.name] for field in fields(Costs) if field.name in costs}
        return Costs(**{name: _numbers(value) for name, value in known.items()})
    except (OSError, ValueError, KeyError, TypeError) as error:
        reason = "holds no costs of the schedule's actions"
        if isinstance(error, OSError):
            reason = error.strerror or str(error)
        elif isinstance(error, ValueError):
            reason = str(error)
        raise DataError(f"{path}: {reason}") from error


def _numbers(value: Any) -> Any:
    return tuple(map(float, value)) if isinstance(value, list) else float(value)
