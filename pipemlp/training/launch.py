"""Start a run's processes on this machine, and see it through to its end."""

import os
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from pipemlp.config.errors import ClusterError
from pipemlp.config.root import RunConfig
from pipemlp.launching.command import local_command, printable_command, visible_devices
from pipemlp.launching.environment import launcher_environment
from pipemlp.launching.ports import check_port, free_port
from pipemlp.launching.supervise import run_launcher
from pipemlp.training.relay import shown_output
from pipemlp.training.report import grid_text
from pipemlp.training.run_directory import CONFIG_FILE, RUN_DIR_VARIABLE
from pipemlp.training.startup import begin, prepare_locally

PATIENCE_SECONDS = 2.0


@dataclass(frozen=True)
class Ended:
    """How a launched run ended."""

    run_dir: Path
    exit_code: int


def launch(config: RunConfig, plugins: Sequence[str] = ()) -> Ended:
    """Prepare the run, start the `deepspeed` launcher, and wait.

    Raises:
        UserError: for everything that can be known before the processes start.
    """
    preparation = prepare_locally(config, _Patience())
    plan = preparation.plan
    device = preparation.config.run.device
    devices = visible_devices(plan.num_ranks) if device == "cuda" else None
    port = _port()
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
        arguments=_plugin_arguments(plugins),
        devices=devices,
    )
    environment = launcher_environment(device) | {RUN_DIR_VARIABLE: str(run_dir)}
    with shown_output() as output:
        return Ended(run_dir, run_launcher(command, run_dir, environment, output=output))


def launch_command(config: RunConfig, path: Path, overrides: Sequence[str] = (), plugins: Sequence[str] = ()) -> str:
    """The command that starts the same processes by hand."""
    num_ranks = config.parallel.stages * config.parallel.data_parallel
    return printable_command(path, num_ranks, arguments=[*overrides, *_plugin_arguments(plugins)])


def _port() -> int:
    """`MASTER_PORT` if the user set it, else one that is free now."""
    given = os.environ.get("MASTER_PORT", "")
    if not given:
        return free_port()
    if not (given.isascii() and given.isdigit() and 1 <= int(given) <= 65535):
        raise ClusterError(f"MASTER_PORT={given} is not a port; use 1024 to 65535")
    check_port("127.0.0.1", int(given))
    return int(given)


def _plugin_arguments(plugins: Sequence[str]) -> list[str]:
    return [argument for plugin in plugins for argument in ("--plugin", plugin)]


class _Patience:
    """Shows what a preparation is doing when it takes long: a line every few seconds."""

    def __init__(self) -> None:
        self._next_at = time.monotonic() + PATIENCE_SECONDS

    def __call__(self, text: str, fraction: float) -> None:
        if time.monotonic() >= self._next_at:
            self._next_at = time.monotonic() + PATIENCE_SECONDS
            print(f"{text} {fraction:.0%}", flush=True)
