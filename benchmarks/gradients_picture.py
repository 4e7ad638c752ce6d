"""The picture of gradients.py: loss against samples and against time, a line for every bound of staleness."""

import argparse
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import fmean
from typing import Any

from scaling_picture import plotting
from start_ranks import run_ranks

__all__ = ["draw", "loss_rows", "plotting"]

NUM_REPLICAS = 4
BOUNDS: Mapping[str, tuple[int | None, str]] = {
    "0, synchronous": (0, "#1f6fb4"),
    "2": (2, "#3a8f4d"),
    "8": (8, "#8a5aa8"),
    "none": (None, "#d1701c"),
}
"""By their names in the picture, with the colour."""
CONFIG = """\
extends: {digits}
model: {{hidden: {{width: 128, depth: 4}}, block: {{name: paced, seconds: 0.015, stragglers: some}}, norm: layer}}
training: {{epochs: {epochs}}}
parallel: {{stages: 1, data_parallel: {replicas}, micro_batches: 1, zero_stage: 0}}
gradients: {{pattern: parameter-server}}
"""
Point = tuple[int, float, float]
"""Samples, seconds and the validation loss."""


def loss_rows(options: argparse.Namespace, folder: Path) -> list[dict[str, object]]:
    """Run digits under every bound, with random stragglers."""
    digits = Path(__file__).resolve().parent.parent / "configs" / "digits.yaml"
    path, seeds = folder / "staleness.yaml", range(1 if options.quick else 3)
    epochs = 3 if options.quick else 15
    path.write_text(CONFIG.format(digits=digits, epochs=epochs, replicas=NUM_REPLICAS), encoding="utf-8")
    rows: list[dict[str, object]] = []
    for name, (bound, _) in BOUNDS.items():
        # every run in processes of its own: turns are counted in a store that lives as long as they do
        runs = [run_ranks("gradients_picture:train", (path, seed, bound), NUM_REPLICAS, folder) for seed in seeds]
        points = [[fmean(column) for column in zip(*turn, strict=True)] for turn in zip(*runs, strict=True)]
        rows.append({"max_staleness": name, "points": points})
    return rows


def train(config_file: Path, seed: int, bound: int | None) -> list[Point]:
    """Run on every rank: the evaluations of a run."""
    import paced  # noqa: F401 - registers the block
    import torch

    from pipemlp.config.loading import load_config
    from pipemlp.training.batches import BatchLoader
    from pipemlp.training.preparation import prepare_run
    from pipemlp.training.timeline import TimelineRecorder
    from pipemlp.training.trainer import Trainer
    from pipemlp.training.worker import build_pipeline

    update = (
        "gradients.update.name=asynchronous",
        f"gradients.update.max_staleness={'null' if bound is None else bound}",
    )
    config = load_config(config_file, [f"run.seed={seed}", *update])
    preparation, device = prepare_run(config), torch.device("cpu")
    pipeline = build_pipeline(preparation)
    loader = BatchLoader(preparation.data, preparation.plan, pipeline.place, seed=seed, device=device)
    watcher = _Losses(preparation.data.shape.num_rows[0] / preparation.budget.steps_per_epoch)
    Trainer(preparation, pipeline, loader, device, watcher, TimelineRecorder(Path(), pipeline, 0)).run()
    return watcher.points


class _Losses:
    """Keeps what evaluations found, and when."""

    def __init__(self, rows_per_step: float) -> None:
        self._rows_per_step, self._started = rows_per_step, time.perf_counter()
        self.points: list[Point] = []

    def begin(self, step: int) -> None:
        """See `Watcher`."""

    def step(self, step: int, loss: float, learning_rate: float, samples_per_second: float) -> None:
        """See `Watcher`."""

    def evaluation(self, split: str, step: int, values: dict[str, float]) -> None:
        """See `Watcher`."""
        if split == "validation":
            seconds = time.perf_counter() - self._started
            self.points.append((round(step * self._rows_per_step), seconds, values["loss"]))

    def note(self, text: str) -> None:
        """See `Watcher`."""


def draw(rows: Sequence[Mapping[str, Any]], path: Path) -> None:
    """Write the picture of these rows."""
    pyplot = plotting()
    figure, axes = pyplot.subplots(1, 2, figsize=(9, 3.8), sharey=True)
    for row in rows:
        samples, seconds, losses = zip(*row["points"], strict=True)
        colour = BOUNDS[row["max_staleness"]][1]
        for axis, across in zip(axes, (samples, seconds), strict=True):
            axis.plot(across, losses, color=colour, linewidth=1.3, label=row["max_staleness"])
    axes[0].set_xlabel("samples")
    axes[1].set_xlabel("seconds")
    axes[0].set_ylabel("validation loss")
    axes[0].set_yscale("log")
    axes[1].legend(frameon=False, fontsize=8, title="max_staleness", title_fontsize=8)
    figure.suptitle("digits, four replicas, each step five times slower with probability 0.1", fontsize=10)
    figure.tight_layout()
    figure.savefig(path, metadata={"Date": None})
    pyplot.close(figure)
