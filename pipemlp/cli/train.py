"""`pipemlp train`: a worker where a launcher set RANK, otherwise the one who starts the launcher."""

from pathlib import Path
from typing import Annotated

import typer

from pipemlp.cli.arguments import Config, Overrides, Plugins
from pipemlp.config.errors import ConfigError
from pipemlp.config.loading import load_config
from pipemlp.launching.environment import WorkerEnvironment
from pipemlp.training.launch import launch, launch_command
from pipemlp.training.plugins import load_plugins
from pipemlp.training.profile_launch import profile_first
from pipemlp.training.startup import check_overrides
from pipemlp.training.work import work


def train(
    config: Config,
    overrides: Overrides = None,
    plan: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="A plan file: replaces section parallel; its error is told at the end."),
    ] = None,
    resume: Annotated[
        str | None,
        typer.Option(metavar="auto", help="`auto`: go on with the run in run.dir, if there is one; else begin it."),
    ] = None,
    plugin: Plugins = None,
    print_command: Annotated[bool, typer.Option("--print-command", help="Show the launcher's command only.")] = False,
) -> None:
    """Train the model of a config file, and evaluate it on the test split.

    Starts the processes the config needs on this machine, through the deepspeed launcher. Started by deepspeed,
    torchrun or the SLURM scripts, it is one of these processes.

    Example: pipemlp train configs/digits.yaml training.epochs=5 parallel.stages=1
    """
    check_overrides(overrides or [], plan)
    if resume not in (None, "auto"):
        raise ConfigError(f"--resume {resume}: only `auto` is known; `pipemlp resume RUN_DIR` names a run")
    load_plugins(plugin or [])
    environment = WorkerEnvironment.from_environ()
    if environment is not None:
        work(config, overrides or [], environment, plan, resume=resume is not None)
    if print_command:
        typer.echo(launch_command(load_config(config, overrides or []), config, overrides or [], plugin or [], plan))
        return
    loaded = load_config(config, overrides or [])
    if loaded.parallel == "auto" and plan is None:
        profile_first(loaded, plugin or [])
    status = launch(loaded, plugin or [], plan, resume=resume is not None)
    raise typer.Exit(status.exit_code)
