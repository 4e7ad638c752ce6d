"""`pipemlp resume`: go on with a run that was stopped, killed, or is to be longer."""

import typer

from pipemlp.cli.arguments import Overrides, Plugins, RunDir
from pipemlp.training.launch import launch
from pipemlp.training.plugins import load_plugins
from pipemlp.training.resuming import configuration_to_go_on
from pipemlp.training.run import open_run


def resume(run_dir: RunDir, overrides: Overrides = None, plugin: Plugins = None) -> None:
    """Go on with a run after its newest whole checkpoint; without one, from the start.

    What says how it is executed may change (parallel, evaluation, checkpoint, logging, fault), and the learning rate
    and the budget; what says what is computed may not.

    Example: pipemlp resume runs/digits-20260102-030405 parallel.stages=1 parallel.data_parallel=2
    """
    load_plugins(plugin or [])
    config, again = configuration_to_go_on(open_run(run_dir).dir, overrides or [])
    if again:
        typer.echo(f"chosen anew for the other grid: {' '.join(again)}")
    raise typer.Exit(launch(config, plugin or [], resume=True).exit_code)
