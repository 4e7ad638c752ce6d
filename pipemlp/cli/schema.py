"""`pipemlp schema`: the JSON schema of the configuration."""

import json

import typer

from pipemlp.config.schema import config_schema


def schema() -> None:
    """Print the JSON schema of the config file, for editors.

    Example: pipemlp schema > pipemlp.schema.json
    """
    typer.echo(json.dumps(config_schema(), indent=1))
