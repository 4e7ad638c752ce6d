"""Arguments and options that several commands take."""

from pathlib import Path
from typing import Annotated

import typer

Config = Annotated[Path, typer.Argument(help="Config file, such as configs/digits.yaml.", show_default=False)]
Overrides = Annotated[
    list[str] | None,
    typer.Argument(metavar="[section.key=value]...", help="Values that replace the file's.", show_default=False),
]
Plugins = Annotated[
    list[str] | None,
    typer.Option("--plugin", metavar="MODULE", help="Python module that registers your own blocks, losses, ..."),
]
RunDir = Annotated[Path, typer.Argument(help="Directory that a run has left.", show_default=False)]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON object instead of tables.")]
