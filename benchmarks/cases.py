"""What is compared with what, and what comes out of it."""

import tempfile
from dataclasses import dataclass
from pathlib import Path

CONFIGS = Path(__file__).resolve().parent.parent / "configs"

WIDE_INPUTS = 256
WIDE_ROWS = 8192
WIDE = f"""\
data: {{source: npy, path: wide.npy, target: "{WIDE_INPUTS}", split: {{validation: 0, test: 0}}}}
model: {{hidden: {{width: 1024, depth: 8}}, block: residual, activation: gelu, norm: layer, dropout: 0.1}}
loss: cross_entropy
training: {{global_batch_size: 512}}
optimizer: {{name: adamw, lr: 1e-4}}
lr_schedule: {{name: cosine, warmup_steps: 20}}
parallel: {{stages: 2, micro_batches: 4, zero_stage: 1}}
"""

ONE_STAGE = ("parallel.stages=1", "parallel.micro_batches=1", "parallel.zero_stage=0")
TWO_REPLICAS = (*ONE_STAGE, "parallel.data_parallel=2")


@dataclass(frozen=True)
class Case:
    """One pair of competitors.

    Args:
        name: for the table.
        model: `digits` or `wide`.
        rival: a key of `rivals.RIVALS`.
        num_ranks: processes.
        overrides: of the model's configuration.
        target: the least ratio of samples per second, ours over the rival's; None to report only.
        steps_share: steps per round, as a share of `--steps`.
    """

    name: str
    model: str
    rival: str
    num_ranks: int
    overrides: tuple[str, ...] = ()
    target: float | None = None
    steps_share: float = 1.0


@dataclass(frozen=True)
class Rounds:
    """What rank 0 found.

    Args:
        losses: ours and the rival's after the steps of the check.
        seconds: one pair per round, ours and the rival's.
        num_samples: in one round.
    """

    losses: tuple[float, float]
    seconds: tuple[tuple[float, float], ...]
    num_samples: int


CASES = (
    Case("digits, 2 stages : bare DeepSpeed", "digits", "bare", 2, target=0.97),
    Case("wide, 2 stages : bare DeepSpeed", "wide", "bare", 2, target=0.97, steps_share=0.125),
    Case("digits, 2 stages : stock DeepSpeed, torch's dropout", "digits", "stock", 2),
    Case("wide, 2 stages : stock DeepSpeed, torch's dropout", "wide", "stock", 2, steps_share=0.125),
    Case("digits, 2 replicas : torch DDP", "digits", "ddp", 2, TWO_REPLICAS, target=0.95),
    Case("wide, 2 replicas : torch DDP", "wide", "ddp", 2, TWO_REPLICAS, target=0.95, steps_share=0.125),
    Case("digits, 1 process : plain torch", "digits", "plain", 1, ONE_STAGE),
    Case("wide, 1 process : plain torch", "wide", "plain", 1, ONE_STAGE, steps_share=0.125),
)


def write_configs(folder: Path) -> None:
    """`digits.yaml`, without rows held out, and `wide.yaml` with its rows, a memory-mapped array of one file."""
    import numpy as np

    digits = CONFIGS / "digits.yaml"
    (folder / "digits.yaml").write_text(
        f"extends: {digits}\ndata: {{split: {{validation: 0, test: 0}}}}\ntraining: {{epochs: null}}\n",
        encoding="utf-8",
    )
    (folder / "wide.yaml").write_text(WIDE, encoding="utf-8")
    generator = np.random.default_rng(0)
    rows = generator.standard_normal((WIDE_ROWS, WIDE_INPUTS + 1), dtype=np.float32)
    rows[:, -1] = np.argmax(rows[:, :10], axis=1)
    np.save(folder / "wide.npy", rows)


def temporary_folder() -> tempfile.TemporaryDirectory[str]:
    """Where configurations, rows, records and logs of one benchmark lie."""
    return tempfile.TemporaryDirectory(prefix="pipemlp-benchmark-")
