"""`pipemlp predict`: predictions for the rows of a file."""

from pathlib import Path
from typing import Annotated

import typer

from pipemlp.cli.arguments import Plugins, RunDir
from pipemlp.training.plugins import load_plugins
from pipemlp.training.run import open_run


def predict(
    run_dir: RunDir,
    source: Annotated[Path, typer.Argument(metavar="INPUT", help="csv, parquet, npy or npz.", show_default=False)],
    output: Annotated[Path, typer.Option(help="File to write: csv, parquet or npy.", show_default=False)],
    plugin: Plugins = None,
) -> None:
    """Predict for every row of a file with the trained model of a run.

    The input needs the model's input columns, by name; others are ignored. A regression writes its target columns, a
    classification the label and the probability of every class. Files larger than memory are fine.

    Example: pipemlp predict runs/table-20260102-030405 new_houses.csv --output prices.csv
    """
    load_plugins(plugin or [])
    run = open_run(run_dir)
    from pipemlp.training.inference import predict_file  # torch takes seconds to import

    num_rows = predict_file(run, source, output)
    typer.echo(f"{output}: {num_rows:,} rows")
