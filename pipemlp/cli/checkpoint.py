"""`pipemlp checkpoint inspect` and `verify`: look inside a checkpoint; prove it intact."""

import json
import os
from pathlib import Path
from typing import Annotated, Any

import typer
from rich import box
from rich.table import Table

from pipemlp.checkpoint.folder import (
    FOLDER,
    PassedOver,
    check_whole,
    is_step_folder,
    read_manifest,
    saved_steps,
    step_folder,
)
from pipemlp.checkpoint.manifest import MANIFEST_FILE, Manifest
from pipemlp.cli.arguments import Json
from pipemlp.cli.screen import screen
from pipemlp.config.errors import ConfigError, ModelFileError
from pipemlp.data.problems import counted
from pipemlp.training.run_directory import CONFIG_FILE
from pipemlp.training.sizes import size_text

app = typer.Typer(no_args_is_help=True, help="Look inside a checkpoint; prove it intact.")
Place = Annotated[
    Path,
    typer.Argument(metavar="PATH", help="A checkpoint, or a run directory, or its checkpoints.", show_default=False),
]


@app.command()
def inspect(path: Place, json_output: Json = False) -> None:
    """Show what a checkpoint holds: its step, who saved it, and its files. Reads the manifest only.

    With a run directory, the newest whose manifest can be read; `verify` reads all files.

    Example: pipemlp checkpoint inspect runs/digits-20260102-030405
    """
    directory, manifest = _newest(path)
    if json_output:
        typer.echo(json.dumps({"path": str(directory), **json.loads(manifest.to_text())}))
        return
    table = Table(box=box.SIMPLE, show_header=False)
    for name, text in _lines(directory, manifest).items():
        table.add_row(name, text)
    screen().print(table)
    files = Table("file", "size", "sha256", box=box.SIMPLE)
    for name, entry in sorted(manifest.files.items()):
        files.add_row(name, size_text(entry.num_bytes), entry.sha256[:16])
    screen().print(files)


@app.command()
def verify(path: Place, json_output: Json = False) -> None:
    """Read every file of a checkpoint and compare size and SHA-256 with the manifest. Exits with 4 if it is not whole.

    With a run directory, all its checkpoints are verified.

    Example: pipemlp checkpoint verify runs/digits-20260102-030405/checkpoints/step-460
    """
    found: dict[str, str | None] = {}
    for directory in _all(path):
        try:
            check_whole(directory)
            found[str(directory)] = None
        except ModelFileError as error:
            found[str(directory)] = str(error)
    if json_output:
        rows: list[dict[str, Any]] = [
            {"path": name, "whole": reason is None, "reason": reason} for name, reason in found.items()
        ]
        typer.echo(json.dumps({"checkpoints": rows}))
    for name, reason in found.items():
        if not json_output:
            typer.echo(f"{name}: whole" if reason is None else reason)
    if any(found.values()):
        raise typer.Exit(ModelFileError.exit_code)


def _lines(directory: Path, manifest: Manifest) -> dict[str, str]:
    facts = dict(manifest.facts)
    facts.pop("data", None)
    copies = "each replica its own weights" if manifest.is_apart else "one copy"
    return {
        "checkpoint": str(directory),
        "step": str(manifest.step),
        "saved by": f"{counted(manifest.num_stages, 'stage')} x {counted(manifest.num_replicas, 'replica')}, {copies}",
        "size": f"{size_text(manifest.num_bytes)} in {counted(len(manifest.files), 'file')}",
        **facts,
    }


def _newest(path: Path) -> tuple[Path, Manifest]:
    """The checkpoint that is meant: itself, or of several the newest with a manifest; says what it passes over."""
    passed: list[PassedOver] = []
    for directory in reversed(_all(path)):
        try:
            manifest = read_manifest(directory)
        except ModelFileError as error:
            if directory == path:
                raise
            passed.append(PassedOver(int(directory.name.rpartition("-")[2]), str(error)))
            continue
        for each in passed:
            typer.echo(each.warning(), err=True)
        return directory, manifest
    raise ModelFileError([f"{path}: no checkpoint in it can be read:", *(each.reason for each in passed)])


def _all(path: Path) -> list[Path]:
    """The checkpoint itself, or those of a run, or of its folder of checkpoints, by rising step.

    Raises:
        ConfigError: if there is no such folder.
        ModelFileError: if there are none in it.
    """
    if is_step_folder(path.absolute()) or (path / MANIFEST_FILE).is_file():
        if not os.path.lexists(path):
            raise ConfigError(f"{path}: no such folder{_others(path)}")
        return [path]
    if not path.is_dir():
        what = "is a file; name the folder of a checkpoint or a run" if path.exists() else "no such folder"
        raise ConfigError(f"{path}: {what}")
    folder = path / FOLDER if (path / FOLDER).is_dir() else path
    steps = saved_steps(folder)
    if not steps:
        is_run = folder != path or path.absolute().name == FOLDER or (path / CONFIG_FILE).is_file()
        raise ModelFileError(f"{path}: {'no checkpoints in it' if is_run else 'is no checkpoint, and holds none'}")
    return [folder / step_folder(step) for step in steps]


def _others(path: Path) -> str:
    steps = saved_steps(path.parent)
    return f"; there are {', '.join(map(step_folder, steps))}" if steps else ""
