"""Start a run's processes on this machine, and see it through to its end."""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from pipemlp.config.root import RunConfig
from pipemlp.launching.command import local_command, plugin_arguments, printable_command, visible_devices
from pipemlp.launching.environment import launcher_environment
from pipemlp.launching.ports import own_port
from pipemlp.launching.supervise import run_launcher
from pipemlp.training.planning import planning_inputs
from pipemlp.training.relay import shown_output
from pipemlp.training.report import grid_text
from pipemlp.training.run_directory import CONFIG_FILE, PLAN_FILE, RUN_DIR_VARIABLE
from pipemlp.training.startup import begin, prepare_locally, read_plan_file

PATIENCE_SECONDS = 2.0


@dataclass(frozen=True)
class Ended:
    """How a launched run ended."""

    run_dir: Path
    exit_code: int


def launch(config: RunConfig, plugins: Sequence[str] = (), plan_path: Path | None = None) -> Ended:
    """Prepare the run, start the `deepspeed` launcher, and wait.

    Args:
        config: as the user wrote it.
        plugins: modules that the processes import too.
        plan_path: of a plan file, if there is one.

    Raises:
        UserError: for everything that can be known before the processes start.
    """
    planned = read_plan_file(plan_path) if plan_path is not None else None
    preparation = prepare_locally(config, _Patience(), planned)
    plan = preparation.plan
    device = preparation.config.run.device
    devices = visible_devices(plan.num_ranks) if device == "cuda" else None
    port = own_port()
    run_dir = begin(preparation)
    for note in preparation.notes:
        print(note)
    print(
        f"{run_dir}: {grid_text(plan)} on {device}, "
        f"{sum(plan.num_parameters):,} parameters, {preparation.budget.num_steps} steps",
        flush=True,
    )
    command = local_command(
        run_dir / CONFIG_FILE,
        plan.num_ranks,
        port,
        arguments=[
            *plugin_arguments(plugins),
            *_plan_arguments(run_dir / PLAN_FILE if preparation.planned is not None else None),
        ],
        devices=devices,
    )
    environment = launcher_environment(device) | {RUN_DIR_VARIABLE: str(run_dir)}
    with shown_output() as output:
        return Ended(run_dir, run_launcher(command, run_dir, environment, output=output))


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
