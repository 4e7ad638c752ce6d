"""Who follows the training: rank 0 shows and records it, the other ranks stay silent."""

import signal
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TextIO

from pipemlp.launching.outcome import stop_code
from pipemlp.training.exchange_report import ExchangeReport, write_exchange
from pipemlp.training.prediction_check import PredictionReport, report_lines, write_report
from pipemlp.training.preparation import Preparation
from pipemlp.training.progress import ProgressDisplay, memory_bytes
from pipemlp.training.run_directory import METRICS_FILE
from pipemlp.training.sizes import seconds_text, size_text
from pipemlp.training.trainer import Outcome


class SilentWatcher:
    """Ignores everything."""

    def begin(self, step: int) -> None:
        """Ignore."""

    def step(self, step: int, loss: float, learning_rate: float, samples_per_second: float) -> None:
        """Ignore."""

    def evaluation(self, split: str, step: int, values: dict[str, float]) -> None:
        """Ignore."""

    def note(self, text: str) -> None:
        """Ignore."""


class FirstRankWatcher:
    """Rank 0: progress on the terminal, lines in the records, a summary at the end.

    Args:
        run_dir: of the run.
        preparation: of it.
        terminal: for the user.
        step: after which the run goes on.
    """

    def __init__(self, run_dir: Path, preparation: Preparation, terminal: TextIO, step: int = 0) -> None:
        # TensorBoard takes a second to import, which only this rank should spend
        from pipemlp.training.records import Records

        budget = preparation.budget
        self._run_dir = run_dir
        self._started_at = time.monotonic()
        self._display = ProgressDisplay(terminal, budget.num_steps, budget.steps_per_epoch)
        self._records = Records(run_dir, min(30.0, preparation.config.fault.timeout_seconds / 4), step)
        self._records.alive(step)

    def begin(self, step: int) -> None:
        """From here on count time."""
        self._display.begin(step)

    def step(self, step: int, loss: float, learning_rate: float, samples_per_second: float) -> None:
        """Show the step, and write it down."""
        self._display.step(step, loss, learning_rate, samples_per_second)
        self._records.alive(step)
        values = {"loss": loss, "lr": learning_rate, "samples_per_second": samples_per_second}
        self._records.add(step, "train", values)

    def evaluation(self, split: str, step: int, values: dict[str, float]) -> None:
        """Show loss and metrics, and write them down."""
        self._display.evaluation(split, step, values)
        self._records.add(step, split, values)
        self._records.alive(step)

    def note(self, text: str) -> None:
        """Show the line."""
        self._display.note(text)

    def stopped(self, outcome: Outcome) -> None:
        """The run was asked to stop, and is saved."""
        assert outcome.stopped_by is not None
        name = signal.Signals(outcome.stopped_by).name
        again = f"pipemlp resume {self._run_dir}"
        self._display.summary(f"{self._run_dir.name} stopped after step {outcome.step} ({name})", {"go on with": again})
        saved = ", and saved" if outcome.step else ""  # before the first step there is nothing to save
        message = f"stopped by {name} after step {outcome.step}{saved}; {again}"
        self._records.end("preempted", outcome.step, message, stop_code(outcome.stopped_by))

    def finish(
        self,
        outcome: Outcome,
        report: PredictionReport | None = None,
        exchanged: ExchangeReport | None = None,
        stalls: Sequence[float] = (),
        num_saved: int = 0,
    ) -> None:
        """The summary, how far the plan was off if there was one, and the end in status.json.

        Args:
            outcome: of the training.
            report: of the prediction.
            exchanged: what exchanges cost.
            stalls: seconds that the training waited for each checkpoint.
            num_saved: of them, those that are whole.
        """
        rows = {"steps": f"{outcome.step}"}
        if outcome.best_step != outcome.step:
            rows["kept weights of step"] = f"{outcome.best_step}"
        for split, values in outcome.evaluations.items():
            rows[split] = "  ".join(f"{name} {value:.4g}" for name, value in values.items())
        minutes, seconds = divmod(round(time.monotonic() - self._started_at), 60)
        rows["time"] = f"{minutes}:{seconds:02d} ({outcome.samples_per_second:,.0f} samples/s in training)"
        if exchanged is not None:
            write_exchange(self._run_dir, exchanged)
            rows |= exchanged.lines()
        if stalls:
            saved = f"{num_saved} saved" if num_saved == len(stalls) else f"{num_saved} of {len(stalls)} saved"
            rows["checkpoints"] = f"{saved}; the training waited at most {seconds_text(max(stalls))} for one"
        rows["memory of rank 0"] = size_text(memory_bytes())
        rows["model"] = str(self._run_dir / "model")
        rows["metrics"] = str(self._run_dir / METRICS_FILE)
        rows["logs"] = str(self._run_dir / "logs")
        self._display.summary(f"{self._run_dir.name} is done", rows)
        if report is not None:
            write_report(self._run_dir, report)
            self._display.lines("predicted and measured", report_lines(report))
        self._records.end("finished", outcome.step, "", 0)
