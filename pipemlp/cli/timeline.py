"""`pipemlp timeline`: a recorded step beside its prediction, or the recorded steps of several runs."""

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from pipemlp.cli.timeline_report import Comparison, as_json, compare, show
from pipemlp.config.errors import ConfigError
from pipemlp.schedule.measured import MeasuredStep
from pipemlp.schedule.measured_picture import picture_of_step, trace_of_step
from pipemlp.schedule.picture import Picture, picture_of
from pipemlp.schedule.render_chrome import render_chrome
from pipemlp.schedule.render_svg import render_svg
from pipemlp.schedule.render_text import stages_to_draw
from pipemlp.training.recorded import planned_costs, recorded_steps
from pipemlp.training.run import open_run

_ENDINGS = ".svg (picture) or .json (Chrome trace, for ui.perfetto.dev)"


def timeline(
    run_dirs: Annotated[
        list[Path],
        typer.Argument(metavar="RUN_DIR", help="Directories that runs have left.", show_default=False),
    ],
    step: Annotated[
        int | None,
        typer.Option(help="A recorded step; every run must have it.", show_default="the last one that was recorded"),
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help=f"Write this file: {_ENDINGS}.",
            show_default="RUN_DIR/timeline.svg and RUN_DIR/timeline.trace.json; of several runs none",
        ),
    ] = None,
    json_output: Annotated[
        bool, typer.Option("--json", help="Print one JSON object instead of tables; of several runs a list of them.")
    ] = False,
) -> None:
    """Show where the time of a training step went, and how it was predicted.

    A run records steps as `logging.timeline_every_steps` says. Compute is forwards and gradients; bubble is waiting for
    what no other stage had computed yet; transfer wait is waiting for what was on its way; other is the rest. The
    picture shows the predicted step above the measured one, of the first replica; of several runs, their measured steps
    on one time axis. Open the trace in ui.perfetto.dev.

    Example: pipemlp timeline runs/digits-20260102-030405

    Example: pipemlp timeline runs/1f1b runs/zb-v --output both.svg
    """
    if output is not None and output.suffix not in (".svg", ".json"):
        raise ConfigError(f"output: {output}: use a name that ends in {_ENDINGS}")
    comparisons = [_comparison(run_dir, step) for run_dir in run_dirs]
    wanted = [output] if output is not None else []
    if output is None and len(run_dirs) == 1:
        wanted = [run_dirs[0] / "timeline.svg", run_dirs[0] / "timeline.trace.json"]
    notes = [_write(path, comparisons, required=output is not None) for path in wanted]
    if json_output:
        values = [as_json(comparison) for comparison in comparisons]
        typer.echo(json.dumps(values if len(values) > 1 else values[0], indent=1))
        return
    for run_dir, comparison in zip(run_dirs, comparisons, strict=True):
        show(comparison, Console(highlight=False), str(run_dir) if len(run_dirs) > 1 else None)
    for note in notes:
        typer.echo(note)


def _comparison(run_dir: Path, step: int | None) -> Comparison:
    """A run's recorded step beside its prediction."""
    open_run(run_dir)
    return compare(_step(recorded_steps(run_dir), step, run_dir), planned_costs(run_dir), run_dir)


def _step(
    recorded: tuple[tuple[MeasuredStep, ...], ...], number: int | None, run_dir: Path
) -> tuple[MeasuredStep, ...]:
    """All replicas of the wanted step."""
    numbers = [replicas[0].step for replicas in recorded]
    if number is None:
        return recorded[-1]
    if number not in numbers:
        raise ConfigError(f"step: {number} was not recorded in {run_dir}; recorded: {', '.join(map(str, numbers))}")
    return recorded[numbers.index(number)]


def _write(path: Path, comparisons: Sequence[Comparison], *, required: bool) -> str:
    """Write a picture or a trace; what to say of it. One that is too large is an error only if it was asked for."""
    try:
        text = _svg(comparisons) if path.suffix == ".svg" else _trace(comparisons)
    except ValueError as error:
        if required:
            raise ConfigError(f"output: {path}: {error}") from error
        return f"not written: {path}: {error}"
    try:
        path.write_text(text, encoding="utf-8")
    except OSError as error:
        raise ConfigError(f"output: {path}: cannot be written: {error.strerror}") from error
    return f"wrote {path}" + ("" if path.suffix == ".svg" else ", to be opened in ui.perfetto.dev")


def _svg(comparisons: Sequence[Comparison]) -> str:
    pictures = []
    for comparison in comparisons:
        measured = comparison.measured[0]
        stages = stages_to_draw(measured.schedule.num_stages)
        if len(comparisons) == 1:
            pictures.append(_named(picture_of(comparison.predicted[0], stages, seconds=True)))
        pictures.append(picture_of_step(measured, stages))
    return render_svg(*pictures)


def _trace(comparisons: Sequence[Comparison]) -> str:
    measured = [trace_of_step(comparison.measured[0]) for comparison in comparisons]
    if len(comparisons) > 1:
        return render_chrome(*measured)
    return render_chrome(_named(picture_of(comparisons[0].predicted[0], seconds=True)), *measured)


def _named(picture: Picture) -> Picture:
    name, _, rest = picture.title.partition(": ")
    return replace(picture, title=f"{name} predicted: {rest}")
