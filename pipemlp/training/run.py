"""A run that exists: its directory, read."""

import difflib
import json
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipemlp.config.errors import ConfigError
from pipemlp.config.loading import load_config
from pipemlp.config.root import RunConfig
from pipemlp.launching.status import RunStatus, effective_state, read_status
from pipemlp.schedule.measured import MeasuredStep
from pipemlp.training.recorded import recorded_steps
from pipemlp.training.run_directory import CONFIG_FILE, METRICS_FILE

if TYPE_CHECKING:
    from pipemlp.checkpoint.trained_model import TrainedModel


@dataclass(frozen=True)
class Run:
    """One run directory."""

    dir: Path

    @property
    def config(self) -> RunConfig:
        """The resolved configuration."""
        return load_config(self.dir / CONFIG_FILE)

    @property
    def status(self) -> RunStatus:
        """How it goes or went; a `running` that was not renewed within the fault timeout reads as failed."""
        status = read_status(self.dir)
        if status is None:
            return RunStatus("failed", message="status.json is missing")
        state = effective_state(status, time.time(), self.config.fault.timeout_seconds)
        return status if state == status.state else replace(status, state=state)

    @property
    def metrics(self) -> list[dict[str, Any]]:
        """The lines of metrics.jsonl: `step`, `split`, `loss`, and what else was measured."""
        path = self.dir / METRICS_FILE
        if not path.is_file():
            return []
        return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]

    def timeline(self) -> MeasuredStep:
        """The last step that was recorded, in replica 0.

        Raises:
            ConfigError: if none was.
            DataError: if timeline.json is damaged.
        """
        return recorded_steps(self.dir)[-1][0]

    def model(self) -> "TrainedModel":
        """The trained model, a plain torch module."""
        from pipemlp.checkpoint.trained_model import load_trained_model  # torch takes seconds to import

        return load_trained_model(self.dir)


def open_run(run_dir: str | Path) -> Run:
    """Open a run directory.

    Raises:
        ConfigError: if it is none.
    """
    path = Path(run_dir)
    if not (path / CONFIG_FILE).is_file():
        raise ConfigError(f"{path}: {_what_else(path)}")
    return Run(path)


def _what_else(path: Path) -> str:
    """What is there in the place of a run, and which run may be meant."""
    if (path.absolute().parent / CONFIG_FILE).is_file():
        return f"is a part of a run; name the run, {path.absolute().parent}"
    if path.exists():
        return f"not a run directory ({CONFIG_FILE} is missing)"
    runs = {file.parent.name: file.parent for file in sorted(path.parent.glob(f"*/{CONFIG_FILE}"))}
    close = difflib.get_close_matches(path.name, runs, n=1)
    return f"no such folder; did you mean {runs[close[0]]}?" if close else "no such folder"
