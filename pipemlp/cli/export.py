"""`pipemlp export`: a trained model as one file for other programs."""

from pathlib import Path
from typing import Annotated

import typer

from pipemlp.cli.arguments import Plugins, RunDir
from pipemlp.training.plugins import load_plugins
from pipemlp.training.run import open_run
from pipemlp.training.sizes import size_text


def export(
    run_dir: RunDir,
    output: Annotated[Path, typer.Option(help="File to write: .safetensors or .onnx.", show_default=False)],
    plugin: Plugins = None,
) -> None:
    """Write the model of a run, or of a checkpoint, as one file, and check that it is the same model.

    .safetensors holds the weights by layer and name, .onnx the whole computation: raw columns in, logits or values in
    the target's own units out.

    Example: pipemlp export runs/table-20260102-030405 --output prices.onnx
    """
    load_plugins(plugin or [])
    run = open_run(run_dir)
    from pipemlp.checkpoint.export import export as write  # torch takes seconds to import

    write(run.model(), output)
    typer.echo(f"{output}: {size_text(output.stat().st_size)}, checked")
