"""What saving costs: 200 steps of 100 million parameters on two ranks, with four saves and without."""

from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median

from fault_record import Record
from findings import ratio_of
from rich.table import Table
from start_ranks import run_ranks

PART = "cost"
NUM_RANKS = 2
WITH, WITHOUT = "with", "without"
CONFIG = """\
data: {{source: {{name: teacher, rows: 512, inputs: 256}}, split: {{validation: 0, test: 0}}}}
model: {{hidden: {{width: {width}, depth: 9}}}}
loss: mse
training: {{steps: {steps}, global_batch_size: 64}}
optimizer: {{name: adamw, lr: 1e-4}}
parallel: {{stages: 2, micro_batches: 4}}
checkpoint: {{every_steps: {save}}}
logging: {{timeline_every_steps: 0}}
"""
WIDTH, STEPS, SAVES = 3520, 200, 4
QUICK_WIDTH, QUICK_STEPS = 352, 20
MOST_RATIO, MOST_SIZE = 1.05, 1.02
"""Of time and of bytes, wanted."""


@dataclass(frozen=True)
class Cost:
    """What rank 0 found; seconds and bytes.

    Args:
        num_parameters: of the model.
        runs: of whole trainings, by `with` and `without`, a value for each round.
        steps: of all steps likewise, those of the slowest rank.
        stalls: that the training waited for each save, of the slowest rank.
        state_bytes: weights and optimizer of all ranks.
        checkpoint_bytes: all files of one checkpoint.
        verify, read: seconds of verifying a checkpoint, and of reading its files, from the disk each time.
    """

    num_parameters: int
    runs: dict[str, list[float]]
    steps: dict[str, list[float]]
    stalls: list[float]
    state_bytes: int
    checkpoint_bytes: int
    verify: list[float]
    read: list[float]


def run_cost(record: Record, folder: Path, num_rounds: int, *, quick: bool) -> Table:
    """Measure and compare.

    Args:
        record: takes one row.
        folder: for the run.
        num_rounds: with and without saving, after one that does not count.
        quick: a small model and few steps.
    """
    width, steps = (QUICK_WIDTH, QUICK_STEPS) if quick else (WIDTH, STEPS)
    (folder / "run.yaml").write_text(CONFIG.format(width=width, steps=steps, save=steps // SAVES))
    cost: Cost = run_ranks("fault_cost_runs:measure_cost", (folder, num_rounds), NUM_RANKS, folder)
    ratio, low, high = ratio_of(cost.runs[WITH], cost.runs[WITHOUT])
    size = cost.checkpoint_bytes / cost.state_bytes
    figures = {
        "parameters": f"{cost.num_parameters:,}",
        "seconds without saving : with (medians)": " : ".join(
            f"{median(cost.runs[name]):.1f}" for name in (WITHOUT, WITH)
        ),
        "with saving, times without": f"{ratio:.3f} ({low:.3f} - {high:.3f}), wanted at most {MOST_RATIO}",
        "longest step without : with": " : ".join(f"{max(cost.steps[name]):.2f} s" for name in (WITHOUT, WITH)),
        "longest that the training waited for a save": f"{max(cost.stalls):.2f} s",
        "checkpoint, times the state": f"{size:.4f}, wanted at most {MOST_SIZE}",
        "verifying : reading": " : ".join(
            f"{megabytes_per_second(cost.checkpoint_bytes, seconds):,.0f} MiB/s" for seconds in (cost.verify, cost.read)
        ),
    }
    kept = {name: value for name, value in asdict(cost).items() if name != "steps"}
    longest = {name: max(values) for name, values in cost.steps.items()}
    record.add(PART, {**kept, "ratio": ratio, "low": low, "high": high, "size": size, "longest_step": longest})
    table = Table("cost", "found")
    for name, text in figures.items():
        table.add_row(name, text)
    return table


def megabytes_per_second(num_bytes: int, seconds: list[float]) -> float:
    """Of the median."""
    return num_bytes / 2**20 / median(seconds)
