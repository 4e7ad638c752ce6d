"""`pipemlp simulate`: clock and draw a schedule."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from pipemlp.cli.arguments import Json
from pipemlp.cli.simulation_report import as_json, show
from pipemlp.config.errors import ConfigError
from pipemlp.planning.exploring import explore
from pipemlp.planning.stage_costs import StageCosts
from pipemlp.schedule.methods import METHODS
from pipemlp.schedule.picture import picture_of
from pipemlp.schedule.render_chrome import render_chrome
from pipemlp.schedule.render_svg import render_svg
from pipemlp.schedule.simulation import Simulation
from pipemlp.schedule.torch_csv import write_csv
from pipemlp.training.simulating import simulate as simulate_schedule
from pipemlp.training.simulating import without_collector

_WRITERS: dict[str, Callable[[Simulation], str]] = {
    ".svg": lambda simulation: render_svg(picture_of(simulation)),
    ".json": lambda simulation: render_chrome(picture_of(simulation)),
    ".csv": lambda simulation: write_csv(simulation.schedule),
}
_ENDINGS = ".svg (picture), .json (Chrome trace, for ui.perfetto.dev) or .csv (torch's compute-only schedule)"
_NAMES = ", ".join(METHODS)


def simulate(
    schedule: Annotated[
        str, typer.Option(metavar="NAME|FILE", help=f"One of {_NAMES}; or a file ending in .csv.", show_default=False)
    ],
    stages: Annotated[int | None, typer.Option(help="Stages; a file knows its own.", show_default=False)] = None,
    virtual_stages: Annotated[
        int | None, typer.Option(help="Virtual stages on each stage; else as many as usual for the schedule.")
    ] = None,
    micro_batches: Annotated[
        int | None, typer.Option(help="Micro-batches; a file knows its own.", show_default=False)
    ] = None,
    forward: Annotated[float, typer.Option(metavar="S", help="Time of a stage's forward.")] = 1.0,
    input_gradient: Annotated[float, typer.Option(metavar="S", help="Time of its input's gradient.")] = 1.0,
    weight_gradient: Annotated[float, typer.Option(metavar="S", help="Time of its weights' gradient.")] = 1.0,
    hop: Annotated[float, typer.Option(metavar="S", help="Time from one stage to the next.")] = 0.0,
    memory: Annotated[
        float | None,
        typer.Option(
            metavar="UNITS",
            help="The most a stage may hold; 1 is what a whole stage keeps of one micro-batch. "
            "zb-auto finds an order within it.",
        ),
    ] = None,
    output: Annotated[Path | None, typer.Option(metavar="FILE", help=f"Also write a file: {_ENDINGS}.")] = None,
    json_output: Json = False,
) -> None:
    """Clock a schedule on equal stages, draw it, and compare it with others.

    Needs no config and no data. Times are for one micro-batch and all that a stage holds, in any unit; a virtual
    stage takes its fraction, and a whole backward takes both gradients' time. The drawing has a row per stage: F0 is
    the forward of micro-batch 0, B the backward, I and W its two halves, input and weight gradient.

    Example: pipemlp simulate --schedule zb-v --stages 4 --micro-batches 8 --hop 0.1 --output zb-v.svg
    """
    if output is not None and output.suffix not in _WRITERS:
        raise ConfigError(f"output: {output}: use a name that ends in {_ENDINGS}")
    costs = StageCosts(forward, input_gradient, weight_gradient, hop)
    with without_collector():
        simulation = simulate_schedule(
            schedule,
            stages,
            micro_batches,
            virtual_stages,
            forward=forward,
            input_gradient=input_gradient,
            weight_gradient=weight_gradient,
            hop=hop,
            memory=memory,
        )
        if output is not None:
            _write(simulation, output)
        findings = explore(simulation, costs, memory, compare=not json_output)
        if json_output:
            typer.echo(json.dumps(as_json(findings), indent=1))
            return
        show(findings, Console(highlight=False))
    if output is not None:
        typer.echo(f"wrote {output}")


def _write(simulation: Simulation, output: Path) -> None:
    try:
        output.write_text(_WRITERS[output.suffix](simulation), encoding="utf-8")
    except ValueError as error:
        raise ConfigError(f"output: {output}: {error}") from error
    except OSError as error:
        raise ConfigError(f"output: {output}: {error.strerror or error}") from error
