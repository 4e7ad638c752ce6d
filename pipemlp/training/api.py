"""The package's functions for Python: what the commands do, with values instead of text."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from pipemlp.config.errors import UserError
from pipemlp.config.loading import load_config
from pipemlp.config.root import RunConfig
from pipemlp.launching.environment import WorkerEnvironment
from pipemlp.training.launch import Ended, launch
from pipemlp.training.plugins import load_plugins
from pipemlp.training.preparation import Preparation, prepare_run
from pipemlp.training.profile_launch import profile_first
from pipemlp.training.resuming import configuration_to_go_on
from pipemlp.training.run import Run, open_run

if TYPE_CHECKING:
    from pipemlp.checkpoint.trained_model import TrainedModel


def _configuration(config: RunConfig | str | Path) -> RunConfig:
    return config if isinstance(config, RunConfig) else load_config(config)


def validate(config: RunConfig | str | Path, plugins: Sequence[str] = ()) -> Preparation:
    """Check a configuration and its data; returns what would run: resolved config, layers, plan, notes.

    `plugins` are modules that register your own blocks, losses, ...

    Raises:
        ConfigError, DataError: with all problems.
    """
    load_plugins(plugins)
    return prepare_run(_configuration(config))


def train(config: RunConfig | str | Path, plugins: Sequence[str] = ()) -> Run:
    """Train in processes of their own, as `pipemlp train` does, and return the finished run.

    Args:
        config: a configuration or its file.
        plugins: modules that register your own blocks, losses, ...; the processes import them too.

    Raises:
        UserError: one of its kinds, for what is wrong before the start, or with the message of the run that failed;
            `exit_code` tells which kind.
    """
    _refuse_launcher("train CONFIG")
    load_plugins(plugins)
    loaded = _configuration(config)
    if loaded.parallel == "auto":
        profile_first(loaded, plugins)
    return _finished(launch(loaded, plugins))


def resume(run: Run | str | Path, overrides: Sequence[str] = (), plugins: Sequence[str] = ()) -> Run:
    """Go on with a run after its newest whole checkpoint, as `pipemlp resume` does, and return it finished.

    Args:
        run: or its folder.
        overrides: of its configuration, `section.key=value`; what may change stands in docs/reliability.md.
        plugins: as for `train`.

    Raises:
        UserError: as `train` does.
    """
    _refuse_launcher("train CONFIG --resume auto")
    load_plugins(plugins)
    config, _ = configuration_to_go_on(_run(run).dir, overrides)
    return _finished(launch(config, plugins, resume=True))


def _refuse_launcher(instead: str) -> None:
    if WorkerEnvironment.from_environ() is not None:
        name = instead.partition(" ")[0]
        raise UserError(f"pipemlp.{name} starts its own processes; in a launcher, run `-m pipemlp {instead}` instead")


def _finished(ended: Ended) -> Run:
    run = open_run(ended.run_dir)
    if ended.exit_code:
        error = UserError(f"{ended.run_dir}: {run.status.message}")
        error.exit_code = ended.exit_code
        raise error
    return run


def evaluate(run: Run | str | Path, split: str = "test") -> dict[str, float]:
    """Loss and metrics by name of a run's model over a whole split: `train`, `validation` or `test`."""
    from pipemlp.training.inference import evaluate_run  # torch takes seconds to import

    return evaluate_run(_run(run), split)


def predict(run: Run | str | Path, source: str | Path, output: str | Path) -> int:
    """Write a prediction for every row of a file; returns the number of rows."""
    from pipemlp.training.inference import predict_file  # torch takes seconds to import

    return predict_file(_run(run), Path(source), Path(output))


def load_model(run: Run | str | Path) -> "TrainedModel":
    """The trained model: a plain torch module in evaluation mode."""
    return _run(run).model()


def _run(run: Run | str | Path) -> Run:
    return run if isinstance(run, Run) else open_run(run)
