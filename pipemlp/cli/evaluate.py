"""`pipemlp evaluate`: loss and metrics of a finished run's model."""

import json
import sys
from enum import StrEnum
from typing import Annotated

import typer
from rich import box
from rich.table import Table

from pipemlp.cli.arguments import Json, Plugins, RunDir
from pipemlp.cli.screen import screen
from pipemlp.training.plugins import load_plugins
from pipemlp.training.run import open_run


class SplitName(StrEnum):
    """Splits of the data."""

    train = "train"
    validation = "validation"
    test = "test"


def evaluate(
    run_dir: RunDir,
    split: Annotated[SplitName, typer.Option(help="Which rows.")] = SplitName.test,
    plugin: Plugins = None,
    json_output: Json = False,
) -> None:
    """Evaluate the trained model of a run on a whole split.

    Example: pipemlp evaluate runs/digits-20260102-030405 --split validation
    """
    load_plugins(plugin or [])
    run = open_run(run_dir)
    from pipemlp.training.inference import evaluate_run  # torch takes seconds to import

    values = evaluate_run(run, split.value, note=lambda text: print(f"pipemlp: {text}", file=sys.stderr))
    if json_output:
        typer.echo(json.dumps({"split": split.value, **values}))
        return
    typer.echo(f"{split.value} rows of {run_dir}")
    table = Table(box=box.SIMPLE, show_header=False)
    for name, value in values.items():
        table.add_row(name, f"{value:.6g}")
    screen().print(table)
