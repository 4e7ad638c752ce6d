"""`pipemlp validate`: everything that can be known without training."""

import json

import typer

from pipemlp.cli.arguments import Config, Json, Overrides, Plugins
from pipemlp.cli.screen import screen
from pipemlp.config.loading import load_config
from pipemlp.training.plugins import load_plugins
from pipemlp.training.preparation import prepare_run
from pipemlp.training.report import as_json, show


def validate(config: Config, overrides: Overrides = None, plugin: Plugins = None, json_output: Json = False) -> None:
    """Check a config file and its data, and show what would run.

    Reads the data files; says what was inferred, where the layers are cut, how many parameters each stage holds and
    how much memory each rank needs. Exits 0, or 2 for the configuration, or 3 for the data, with all problems in one
    report.

    Example: pipemlp validate configs/large_8gpu.yaml parallel.stages=8
    """
    load_plugins(plugin or [])
    preparation = prepare_run(load_config(config, overrides or []))
    if json_output:
        typer.echo(json.dumps(as_json(preparation), indent=1))
    else:
        show(preparation, screen())
