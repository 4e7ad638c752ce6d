"""Start a run's processes on this machine, and see it through to its end."""

import shlex
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from pipemlp.checkpoint.folder import FOLDER, saved_steps
from pipemlp.config.root import RunConfig
from pipemlp.launching.command import local_command, plugin_arguments, printable_command, visible_devices
from pipemlp.launching.environment import launcher_environment
from pipemlp.launching.ports import own_port
from pipemlp.launching.status import read_status
from pipemlp.launching.supervise import caught_signals, ending_at_once, run_launcher
from pipemlp.launching.telling import tell
from pipemlp.training.planning import planning_inputs
from pipemlp.training.relay import shown_output
from pipemlp.training.report import grid_text
from pipemlp.training.restarts import RESTARTED, run_with_restarts
from pipemlp.training.run_directory import CHECKPOINT_VARIABLE, CONFIG_FILE, METRICS_FILE, PLAN_FILE, RUN_DIR_VARIABLE
from pipemlp.training.startup import Begun, begin, begin_or_resume, prepare_locally, read_plan_file

PATIENCE_SECONDS = 2.0
LEAST_SAVING_SECONDS = 10.0
"""For the workers to save after a signal."""


@dataclass(frozen=True)
class Ended:
    """How a launched run ended."""

    run_dir: Path
    exit_code: int


def launch(
    config: RunConfig, plugins: Sequence[str] = (), plan_path: Path | None = None, *, resume: bool = False
) -> Ended:
    """Prepare the run, start the `deepspeed` launcher, and wait.

    Args:
        config: as the user wrote it.
        plugins: modules that the processes import too.
        plan_path: of a plan file, if there is one.
        resume: whether to go on with the run in `run.dir`, if there is one.

    Raises:
        UserError: for everything that can be known before the processes start.
    """
    with ending_at_once():
        planned = read_plan_file(plan_path) if plan_path is not None else None
        preparation = prepare_locally(config, _Patience(), planned)
        plan = preparation.plan
        device = preparation.config.run.device
        devices = visible_devices(plan.num_ranks) if device == "cuda" else None
        port = own_port()
        begun = begin_or_resume(preparation) if resume else begin(preparation)
    for note in (*preparation.notes, *begun.notes):
        print(note)
    print(
        f"{begun.run_dir}: {grid_text(plan)} on {device}, "
        f"{sum(plan.num_parameters):,} parameters, {preparation.budget.num_steps} steps",
        flush=True,
    )
    command = local_command(
        begun.run_dir / CONFIG_FILE,
        plan.num_ranks,
        port,
        arguments=[
            *plugin_arguments(plugins),
            *_plan_arguments(begun.run_dir / PLAN_FILE if preparation.planned is not None else None),
        ],
        devices=devices,
    )
    environment = launcher_environment(device) | {RUN_DIR_VARIABLE: str(begun.run_dir)}
    try:
        ended = Ended(begun.run_dir, _see_through(begun, command, environment))
    finally:
        if begun.lock is not None:
            begun.lock.release()
    again = how_to_go_on(ended, plugins)
    if again is not None:
        tell(again)
    return ended


def how_to_go_on(ended: Ended, plugins: Sequence[str] = ()) -> str | None:
    """What to do after a run that failed on its way, for the user; None where a resume would not help.

    A run that was stopped says so itself; what is wrong with a configuration, data or a checkpoint stays wrong.
    """
    if ended.exit_code not in RESTARTED:
        return None
    command = shlex.join(["pipemlp", "resume", str(ended.run_dir), *plugin_arguments(plugins)])
    if saved_steps(ended.run_dir / FOLDER):
        status = read_status(ended.run_dir)
        changed = "with one of these changes, " if status is not None and status.comes_again else ""
        return f"{changed}go on with: {command}"
    metrics = ended.run_dir / METRICS_FILE
    return f"no checkpoint yet; begin again with: {command}" if metrics.is_file() and metrics.stat().st_size else None


def _see_through(begun: Begun, command: Sequence[str], environment: Mapping[str, str]) -> int:
    """Run the launcher, again where `fault.restarts` says so; returns the exit code."""
    fault = begun.preparation.config.fault
    saving_seconds = max(LEAST_SAVING_SECONDS, fault.timeout_seconds)
    with shown_output() as output, caught_signals() as caught:

        def start(checkpoint: Path | None) -> int:
            known = {} if checkpoint is None else {CHECKPOINT_VARIABLE: str(checkpoint)}
            return run_launcher(
                command,
                begun.run_dir,
                {**environment, **known},
                output=output,
                saving_seconds=saving_seconds,
                caught=caught,
            )

        return run_with_restarts(start, begun.run_dir, begun.checkpoint, fault.restarts, caught)


def launch_command(
    config: RunConfig,
    path: Path,
    overrides: Sequence[str] = (),
    plugins: Sequence[str] = (),
    plan_path: Path | None = None,
) -> str:
    """The command that starts the same processes by hand."""
    if plan_path is None and config.parallel == "auto":
        num_ranks = planning_inputs(config).num_ranks
    else:
        parallel = config.chosen_parallel if plan_path is None else read_plan_file(plan_path).parallel
        num_ranks = parallel.stages * parallel.data_parallel
    arguments = [*overrides, *plugin_arguments(plugins), *_plan_arguments(plan_path)]
    return printable_command(path, num_ranks, arguments=arguments)


def _plan_arguments(plan_path: Path | None) -> list[str]:
    return [] if plan_path is None else ["--plan", str(plan_path.absolute())]


class _Patience:
    """Shows what a preparation is doing when it takes long: a line every few seconds."""

    def __init__(self) -> None:
        self._next_at = time.monotonic() + PATIENCE_SECONDS

    def __call__(self, text: str, fraction: float) -> None:
        if time.monotonic() >= self._next_at:
            self._next_at = time.monotonic() + PATIENCE_SECONDS
            print(f"{text} {fraction:.0%}", flush=True)
