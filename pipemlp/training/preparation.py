"""Everything that is decided before the run: data opened, `auto` replaced, layers described, plan made.

No torch here, and no process group: every mistake that can be known is reported before either exists.
"""

import glob
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from pipemlp.config.data import SplitPaths
from pipemlp.config.errors import ConfigError, DataError
from pipemlp.config.loading import problems_error
from pipemlp.config.root import RunConfig
from pipemlp.data import PreparedData, prepare
from pipemlp.planning.budget import Budget, budget_of
from pipemlp.planning.checks import batch_problems, plan_notes, plan_problems
from pipemlp.planning.layers import LayerDescription, describe_layers
from pipemlp.planning.making import Known, make_plan
from pipemlp.planning.plan import Plan
from pipemlp.planning.plan_file import PlanFile
from pipemlp.planning.resolve import resolve
from pipemlp.schedule.schedule import Schedule
from pipemlp.schedule.torch_csv import read_csv
from pipemlp.training.auto_plan import plan_automatically
from pipemlp.training.cost_sources import local_data_sheet, local_device, on_gpu, usual_source

Progress = Callable[[str, float], None]


@dataclass(frozen=True)
class Preparation:
    """A run, ready to start.

    Args:
        config: with every `auto` replaced but `run.dir`.
        data: opened and checked.
        layers: of the whole model.
        plan: how it is executed.
        budget: steps, and when to evaluate.
        notes: what was inferred and decided, for the user.
        planned: the plan that it follows, if it follows one.
    """

    config: RunConfig
    data: PreparedData
    layers: tuple[LayerDescription, ...]
    plan: Plan
    budget: Budget
    notes: tuple[str, ...]
    planned: PlanFile | None = None


def prepare_run(
    config: RunConfig,
    progress: Progress | None = None,
    planned: PlanFile | None = None,
    num_ranks: int | None = None,
) -> Preparation:
    """Check everything that can be known, and decide the rest.

    Args:
        config: as the user wrote it.
        progress: told what is being done, and how far it is.
        planned: a plan, whose `parallel` section replaces the configuration's.
        num_ranks: of the processes that were started already, for `parallel: auto`; else those of this machine.

    Raises:
        ConfigError: with all problems of the configuration, each with its file and line.
        DataError: with all problems of the data.
    """
    planning_notes: tuple[str, ...] = ()
    if config.parallel == "auto" and planned is None:
        planned, planning_notes = plan_automatically(config, num_ranks)
    if planned is not None:
        config = config.with_parallel(planned.parallel, planned.file)
    problems = list(batch_problems(config))
    if problems:
        raise problems_error(config, problems)
    try:
        data = prepare(config, config.base_dir, progress)
    except (ConfigError, DataError) as error:
        raise type(error)([_located(config, message) for message in error.messages]) from error
    config, own = _with_schedule(config)
    resolved, notes = resolve(_with_columns(config, data), data.shape, own)
    layers = describe_layers(resolved.model, data.shape)
    if planned is not None and (differing := planned.differing_keys(resolved, layers)):
        raise ConfigError([f"--plan: {difference}" for difference in differing])
    problems = list(plan_problems(resolved, layers, data.shape, own))
    if problems:
        raise problems_error(config, problems)
    known, cut_notes = _known(resolved, layers, own, planned)
    plan = replace(make_plan(resolved, layers, known), prediction=None if planned is None else planned.prediction)
    return Preparation(
        config=_with_cut(resolved, plan),
        data=data,
        layers=layers,
        plan=plan,
        budget=budget_of(resolved, data.shape.num_rows[0]),
        notes=(*data.notes, *planning_notes, *notes, *cut_notes, *plan_notes(resolved, data.shape)),
        planned=planned,
    )


def _known(
    config: RunConfig, layers: tuple[LayerDescription, ...], own: Schedule | None, planned: PlanFile | None
) -> tuple[Known, tuple[str, ...]]:
    """What the plan is made with, and what the user should know of it."""
    if planned is not None:
        return Known(costs=planned.costs, runs_on_gpu=on_gpu(config)), _device_note(config, planned)
    if config.chosen_parallel.partition != "balanced":
        return Known(schedule=own, runs_on_gpu=on_gpu(config)), ()
    chosen = usual_source(config, layers)
    return Known(schedule=own, source=chosen.source), (f"parallel.partition: balanced; {chosen.origin}",)


def _device_note(config: RunConfig, planned: PlanFile) -> tuple[str, ...]:
    here = local_device(config)
    if planned.device in (here, local_data_sheet(config).name):
        return ()
    return (
        f"warning: --plan: the plan is for {planned.device}, and this is {here}; its times are those of the other, and "
        "another plan may be faster here",
    )


def _with_cut(config: RunConfig, plan: Plan) -> RunConfig:
    """The configuration with the boundaries in the place of `balanced`, so that every rank cuts there."""
    if config.chosen_parallel.partition != "balanced":
        return config
    parallel = config.chosen_parallel.model_copy(update={"partition": plan.boundaries})
    return config.model_copy(update={"parallel": parallel})


def _located(config: RunConfig, message: str) -> str:
    key = message.split(":", 1)[0]
    where = config.where(key) if "." in key or key in RunConfig.model_fields else ""
    return f"{where}: {message}" if where else message


def _with_schedule(config: RunConfig) -> tuple[RunConfig, Schedule | None]:
    """The configuration with the absolute path of the user's own schedule, and that schedule, if there is one."""
    given = config.chosen_parallel.schedule
    if not given.endswith(".csv"):
        return config, None
    path = Path(str(_absolute(given, config.base_dir)))
    try:
        own = read_csv(path.read_text(encoding="utf-8"), given)
    except (OSError, ValueError) as error:
        reason = str(error)
        if isinstance(error, FileNotFoundError):
            reason = f"no such file; it was looked for at {path}"
        elif isinstance(error, OSError | UnicodeDecodeError):
            reason = f"cannot be read: {getattr(error, 'strerror', None) or 'it is no text'}"
        raise problems_error(config, [("parallel.schedule", f"{given}: {reason}")]) from error
    parallel = config.chosen_parallel.model_copy(update={"schedule": str(path)})
    return config.model_copy(update={"parallel": parallel}), own


def _with_columns(config: RunConfig, data: PreparedData) -> RunConfig:
    """The configuration with the columns that were inferred, and paths that hold from anywhere."""
    columns, section = data.columns, config.data
    update: dict[str, object] = {
        "numeric": columns.numeric,
        "categorical": columns.categorical,
        "path": _absolute(section.path, config.base_dir),
    }
    if section.target == "auto":
        update["target"] = columns.targets if len(columns.targets) > 1 else columns.targets[0]
    return config.model_copy(update={"data": section.model_copy(update=update)})


def _absolute(path: str | SplitPaths | None, base_dir: Path) -> str | SplitPaths | None:
    if isinstance(path, SplitPaths):
        return path.model_copy(update={split: _absolute(value, base_dir) for split, value in path if value is not None})
    if path is None:
        return None
    below = base_dir / Path(path).expanduser()
    found = below if below.exists() or glob.glob(str(below)) else Path(path).expanduser().absolute()
    return str(found)
