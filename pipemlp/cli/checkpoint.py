"""`pipemlp checkpoint inspect` and `verify`: look inside a checkpoint; prove it intact."""

import json
from pathlib import Path
from typing import Annotated, Any

import typer
from rich import box
from rich.table import Table

from pipemlp.checkpoint.folder import FOLDER, check_whole, newest_whole, read_manifest, saved_steps, step_folder
from pipemlp.checkpoint.manifest import Manifest
from pipemlp.cli.arguments import Json
from pipemlp.cli.screen import screen
from pipemlp.config.errors import ModelFileError
from pipemlp.training.sizes import size_text

app = typer.Typer(no_args_is_help=True, help="Look inside a checkpoint; prove it intact.")
Place = Annotated[
    Path, typer.Argument(metavar="PATH", help="A checkpoint, or a run directory: its newest.", show_default=False)
]


@app.command()
def inspect(path: Place, json_output: Json = False) -> None:
    """Show what a checkpoint holds: its step, who saved it, and its files. Reads the manifest only.

    Example: pipemlp checkpoint inspect runs/digits-20260102-030405
    """
    directory = _checkpoint(path)
    manifest = read_manifest(directory)
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
        "saved by": f"{manifest.num_stages} stages x {manifest.num_replicas} replicas, {copies}",
        "size": f"{size_text(manifest.num_bytes)} in {len(manifest.files)} files",
        **facts,
    }


def _is_checkpoint(path: Path) -> bool:
    return not (path / FOLDER).is_dir() and path.is_dir()


def _checkpoint(path: Path) -> Path:
    """The checkpoint that is meant: itself, or the newest whole one of a run."""
    if _is_checkpoint(path):
        return path
    newest, passed = newest_whole(path / FOLDER)
    if newest is None:
        raise ModelFileError([f"{path}: no whole checkpoint in it", *(each.reason for each in passed)])
    return newest.directory


def _all(path: Path) -> list[Path]:
    if _is_checkpoint(path):
        return [path]
    steps = saved_steps(path / FOLDER)
    if not steps:
        raise ModelFileError(f"{path}: no checkpoints in it")
    return [path / FOLDER / step_folder(step) for step in steps]
