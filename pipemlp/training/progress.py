"""What the user sees while a run trains: a live bar on a terminal, plain lines elsewhere."""

import resource
import sys
import time
from collections.abc import Mapping, Sequence
from typing import TextIO

import torch
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

from pipemlp.training.sizes import size_text

PLAIN_LINE_SECONDS = 5.0
"""Least time between two plain progress lines."""


def memory_bytes() -> int:
    """Peak memory of this process: the device's allocator on GPUs, resident memory on CPU."""
    if torch.cuda.is_available() and torch.cuda.is_initialized():
        return torch.cuda.max_memory_allocated()
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


class ProgressDisplay:
    """Shows steps and evaluations of one run.

    Args:
        file: the user's terminal, or whatever stands for it.
        num_steps, num_epochs: the length of the run.
    """

    def __init__(self, file: TextIO, num_steps: int, steps_per_epoch: int) -> None:
        self.console = Console(file=file, highlight=False, soft_wrap=not file.isatty())
        self._num_steps = num_steps
        self._steps_per_epoch = steps_per_epoch
        self._last_line_at = 0.0
        self._begin, self._started_at = 0, time.monotonic()
        self._bar: Progress | None = None
        if self.console.is_terminal:
            self._bar = Progress(
                TextColumn("{task.fields[where]}"),
                BarColumn(),
                TextColumn("{task.fields[numbers]}"),
                TimeRemainingColumn(),
                console=self.console,
                refresh_per_second=2,  # more would take the interpreter from the training
            )
            self._task = self._bar.add_task("train", total=num_steps, where="starting", numbers="")
            self._bar.start()

    def begin(self, step: int) -> None:
        """The training begins now, after `step` steps that an earlier run has done: their time is not this one's."""
        self._begin, self._started_at = step, time.monotonic()
        if self._bar is not None:
            self._bar.update(self._task, completed=step)

    def step(self, step: int, loss: float, learning_rate: float, samples_per_second: float) -> None:
        """Show optimizer step `step` (counted from 1)."""
        epoch = (step - 1) // self._steps_per_epoch + 1
        num_epochs = -(-self._num_steps // self._steps_per_epoch)
        where = f"epoch {epoch}/{num_epochs} step {step}/{self._num_steps}"
        numbers = (
            f"loss {loss:.4f}  lr {learning_rate:.2e}  {samples_per_second:,.0f} samples/s  {size_text(memory_bytes())}"
        )
        if self._bar is not None:
            self._bar.update(self._task, completed=step, where=where, numbers=numbers)
        elif time.monotonic() - self._last_line_at >= PLAIN_LINE_SECONDS:
            self._last_line_at = time.monotonic()
            self._print(f"{where}  {numbers}  ETA {self._remaining(step)}")

    def evaluation(self, split: str, step: int, values: Mapping[str, float]) -> None:
        """Show loss and metrics of a split after `step` steps."""
        numbers = "  ".join(f"{name} {value:.4g}" for name, value in values.items())
        self._print(f"{split} after step {step}: {numbers}")

    def _print(self, text: str) -> None:
        self.console.print(text, markup=False)

    def _remaining(self, step: int) -> str:
        """Hours, minutes and seconds, by what the steps of this process have taken with their evaluations and saves."""
        elapsed = time.monotonic() - self._started_at
        minutes, seconds = divmod(round(elapsed / (step - self._begin) * (self._num_steps - step)), 60)
        return f"{minutes // 60}:{minutes % 60:02d}:{seconds:02d}"

    def note(self, text: str) -> None:
        """Show a line."""
        self._print(text)

    def summary(self, title: str, rows: Mapping[str, str]) -> None:
        """Show names and values, a line each, which can be copied whole."""
        self.close()
        self.console.print(title, style="bold", markup=False)
        for name, value in rows.items():
            self.console.print(f"  {name:<22}{value}", markup=False, soft_wrap=True)

    def lines(self, title: str, lines: Sequence[str]) -> None:
        """Show some lines below a title."""
        self.console.print(title, style="bold", markup=False)
        for line in lines:
            self.console.print(f"  {line}", markup=False, soft_wrap=True)

    def close(self) -> None:
        """End the live display."""
        if self._bar is not None:
            self._bar.stop()
            self._bar = None
