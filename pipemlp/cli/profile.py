"""`pipemlp profile`: measure what layers, messages and steps take on this machine."""

from pathlib import Path
from typing import Annotated

import typer

from pipemlp.cli.arguments import Config, Overrides, Plugins
from pipemlp.config.errors import ConfigError
from pipemlp.config.loading import load_config
from pipemlp.launching.environment import WorkerEnvironment
from pipemlp.training.plugins import load_plugins
from pipemlp.training.profile_launch import launch_profile
from pipemlp.training.profile_work import profile_work
from pipemlp.training.run_directory import run_name

USUAL_SECONDS = 60.0
LEAST_SECONDS = 1.0


def profile(
    config: Config,
    overrides: Overrides = None,
    ranks: Annotated[
        int | None, typer.Option(metavar="N", help="Ranks that measure; else those that the config runs on.")
    ] = None,
    output: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Where the profile goes; NAME.profile.json if not given.")
    ] = None,
    seconds: Annotated[float, typer.Option(metavar="S", help="About how long to measure.")] = USUAL_SECONDS,
    plugin: Plugins = None,
) -> None:
    """Measure every kind of layer, the links between ranks, and what a step takes besides.

    Starts as many processes as the config runs on (for one, as many as there are devices), which measure at the same
    time, as they would train: forward, input gradient and weight gradient of each kind of layer at several sizes of
    micro-batches, messages and sums between the ranks, the optimizer, and steps of a shortened model. Reads no rows.
    `pipemlp plan` takes the file, and refuses it for another model, device or version.

    Example: pipemlp profile configs/pyramid.yaml --ranks 2, then pipemlp plan configs/pyramid.yaml --ranks 2
    """
    load_plugins(plugin or [])
    if not seconds >= LEAST_SECONDS:
        raise ConfigError(f"seconds: {seconds:g} is too short to measure anything; at least {LEAST_SECONDS:g}")
    if ranks is not None and ranks < 1:
        raise ConfigError(f"ranks: {ranks} is too small; at least 1")
    loaded = load_config(config, overrides or [])
    path = output or Path(f"{run_name(loaded)}.profile.json")
    environment = WorkerEnvironment.from_environ()
    if environment is not None:
        profile_work(config, overrides or [], environment, path, seconds)
    raise typer.Exit(launch_profile(loaded, path, seconds, plugin or [], ranks))
