"""`pipemlp plan`: how to run a config on so many ranks, or whether to pipeline at all."""

import json
import shlex
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn

from pipemlp.cli.arguments import Config, Json, Overrides, Plugins
from pipemlp.cli.plan_json import as_json
from pipemlp.cli.plan_report import show
from pipemlp.cli.screen import screen
from pipemlp.config.errors import ConfigError
from pipemlp.config.loading import load_config
from pipemlp.launching.command import plugin_arguments
from pipemlp.planning.devices import DEVICES
from pipemlp.training.planner import Question, answer
from pipemlp.training.planning import planning_inputs
from pipemlp.training.plugins import load_plugins
from pipemlp.training.run_directory import run_name
from pipemlp.training.sizes import size_of
from pipemlp.training.startup import decides_parallel


def plan(
    config: Config,
    overrides: Overrides = None,
    ranks: Annotated[
        int | None, typer.Option(metavar="N", help="Ranks; else as many as the config has.", show_default=False)
    ] = None,
    device: Annotated[
        str | None,
        typer.Option(metavar="NAME", help=f"Plan by a data sheet: {', '.join(DEVICES)}.", show_default=False),
    ] = None,
    memory: Annotated[
        str | None,
        typer.Option(metavar="SIZE", help="What a rank may hold, such as 80G or 16GiB.", show_default="the device's"),
    ] = None,
    nodes: Annotated[
        int | None, typer.Option(metavar="K", help="Nodes that share the ranks evenly.", show_default="one")
    ] = None,
    profile: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="Plan by what `pipemlp profile` measured.",
            show_default="NAME.profile.json if it is here",
        ),
    ] = None,
    top: Annotated[int, typer.Option(metavar="N", help="Lines of the ranking.")] = 5,
    explain: Annotated[bool, typer.Option("--explain", help="Also say how the choice came about.")] = False,
    output: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Where the plan goes.", show_default="NAME.plan.json")
    ] = None,
    plugin: Plugins = None,
    json_output: Json = False,
) -> None:
    """Find the fastest way to run a config on a number of ranks.

    Searches stages and replicas, schedules, micro-batches, recomputation and ZeRO 0 or 1; cuts the layers so that the
    slowest stage is as fast as can be, simulates what is promising, and leaves out what does not fit into memory. Says
    "do not pipeline" where plain data parallelism is as good. Reads no rows where it can do without.

    Example: pipemlp plan configs/large_8gpu.yaml --ranks 8 --device h100-80gb
    """
    question = Question(ranks, device, None if memory is None else size_of(memory), nodes, profile, top)
    question.check()
    load_plugins(plugin or [])
    inputs = planning_inputs(load_config(config, overrides or []))
    path = Path(f"{run_name(inputs.config)}.plan.json") if output is None else output
    if not path.parent.is_dir():  # better known before the search
        raise ConfigError(f"output: {path}: there is no folder {path.parent}")
    with _shown_progress() as progress:
        found = answer(inputs, question, progress)
    found.write(path)
    if json_output:
        typer.echo(json.dumps(as_json(found), indent=1))
        return
    show(found, screen(), explain=explain)
    others = [override for override in overrides or [] if not decides_parallel(override)]  # the plan does
    words = ["pipemlp", "train", str(config), *others, *plugin_arguments(plugin or []), "--plan", str(path)]
    typer.echo(f"wrote {path}; run it: {shlex.join(words)}")


@contextmanager
def _shown_progress() -> Iterator[Callable[[float, str], None]]:
    """A bar on a terminal; what is printed stays clean."""
    columns, console = (TextColumn("planning"), BarColumn(), TextColumn("{task.description}")), Console(stderr=True)
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as bar:
        task = bar.add_task("", total=1.0)
        yield lambda share, what: bar.update(task, completed=share, description=what)
