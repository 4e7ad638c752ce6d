"""The command line: one module per command, gathered here."""

from typing import Annotated

import typer

from pipemlp.cli.checkpoint import app as checkpoint
from pipemlp.cli.evaluate import evaluate
from pipemlp.cli.export import export
from pipemlp.cli.plan import plan
from pipemlp.cli.predict import predict
from pipemlp.cli.profile import profile
from pipemlp.cli.resume import resume
from pipemlp.cli.schema import schema
from pipemlp.cli.simulate import simulate
from pipemlp.cli.timeline import timeline
from pipemlp.cli.train import train
from pipemlp.cli.validate import validate

app = typer.Typer(
    name="pipemlp",
    help="Train deep MLPs over stages and replicas, from one config file.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


@app.callback()
def _root(local_rank: Annotated[int | None, typer.Option("--local_rank", hidden=True)] = None) -> None:
    """Train deep MLPs over stages and replicas, from one config file."""


for _command in (train, resume, validate, profile, plan, simulate, timeline, evaluate, predict, export, schema):
    app.command()(_command)
app.add_typer(checkpoint, name="checkpoint")
