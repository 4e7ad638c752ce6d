"""Start the processes of a profile on this machine, and see them through."""

import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path

from pipemlp.config.errors import ConfigError, UserError
from pipemlp.config.paths import with_absolute_paths
from pipemlp.config.root import RunConfig
from pipemlp.config.writing import write_config
from pipemlp.launching.command import local_command, plugin_arguments, visible_devices
from pipemlp.launching.devices import device_of_run, num_cores, num_gpus
from pipemlp.launching.environment import launcher_environment
from pipemlp.launching.ports import own_port
from pipemlp.launching.processes import check_processes
from pipemlp.launching.supervise import run_launcher
from pipemlp.training.cost_sources import profile_costs, usual_profile
from pipemlp.training.planning import num_devices, planning_inputs
from pipemlp.training.relay import shown_output
from pipemlp.training.run_directory import RUN_DIR_VARIABLE, run_name

OWN_BUG = 1
SECONDS_BEFORE_PLAN = 20.0
MOST_PER_CORE = 4
"""Ranks that measure."""


def launch_profile(
    config: RunConfig, output: Path, seconds: float, plugins: Sequence[str] = (), ranks: int | None = None
) -> int:
    """Profile in processes of their own; the exit code.

    Args:
        config: as the user wrote it.
        output: where the profile goes.
        seconds: to spend, roughly.
        plugins: modules that the processes import too.
        ranks: processes, if not those that the configuration runs on.

    Raises:
        UserError: for everything that can be known before the processes start.
    """
    check_output(output)
    planning_inputs(config)
    device = device_of_run(config.run.device)
    num_ranks = ranks or num_profile_ranks(config)
    check_processes(num_ranks, num_gpus(), device)
    if device == "cpu" and num_ranks > (most := MOST_PER_CORE * num_cores()):
        raise ConfigError(f"ranks: {num_ranks} on {num_cores()} cores would measure how they wait; at most {most}")
    devices = visible_devices(num_ranks) if device == "cuda" else None
    port = own_port()
    arguments = ["--output", str(output.absolute()), "--seconds", f"{seconds:g}", *plugin_arguments(plugins)]
    scratch = Path(tempfile.mkdtemp(prefix="pipemlp-profile-"))
    file = scratch / f"{run_name(config)}.yaml"
    write_config(with_absolute_paths(config), file)
    command = local_command(file, num_ranks, port, arguments=arguments, devices=devices, command="profile")
    environment = launcher_environment(device) | {RUN_DIR_VARIABLE: str(scratch)}
    with shown_output() as descriptor:
        exit_code = run_launcher(command, scratch, environment, output=descriptor)
    if exit_code != OWN_BUG:  # whose logs somebody will want to read
        shutil.rmtree(scratch, ignore_errors=True)
    return exit_code


def num_profile_ranks(config: RunConfig) -> int:
    """As many as the configuration runs on; if that is one, or to be planned, as many as there are devices."""
    if config.parallel == "auto":
        return num_devices(config)
    wanted = config.chosen_parallel.stages * config.chosen_parallel.data_parallel
    return wanted if wanted > 1 else num_devices(config)


def profile_first(config: RunConfig, plugins: Sequence[str] = ()) -> None:
    """Before `parallel: auto` plans: measure, unless a profile is there that belongs to the configuration.

    One that does not belong is replaced; the reason is printed.

    Raises:
        UserError: for everything that can be known before the processes start, or if they fail.
    """
    path = usual_profile(config)
    inputs = planning_inputs(config)
    try:
        profile_costs(path, inputs.config, inputs.layers)
    except ConfigError as unfit:
        reason = f"{unfit}; " if path.exists() else ""
        print(f"parallel: auto: {reason}profiling for about {SECONDS_BEFORE_PLAN:.0f} s, into {path}", flush=True)
        exit_code = launch_profile(config, path, SECONDS_BEFORE_PLAN, plugins)
        if exit_code:
            error = UserError(f"{path}: the profile failed")
            error.exit_code = exit_code
            raise error from None


def check_output(output: Path) -> None:
    """Refuse a file that could not be written, before minutes are spent.

    Raises:
        ConfigError: saying why.
    """
    if output.is_dir():
        raise ConfigError(f"output: {output}: is a folder; name a file")
    if not output.absolute().parent.is_dir():
        raise ConfigError(f"output: {output}: there is no folder {output.absolute().parent}")
