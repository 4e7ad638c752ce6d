"""The models and settings of which plan_accuracy.py compares the prediction with the run."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from types import MappingProxyType

import numpy as np

from pipemlp.planning.recompute import Recompute
from pipemlp.planning.workload import Setting

ROWS = 4096
PLAIN = "block: plain, activation: relu"


@dataclass(frozen=True)
class Model:
    """A model with its data.

    Args:
        hidden: as the configuration has it.
        inputs: numeric columns.
        outputs: classes, or 1 for regression.
        batch: rows of a step.
        settings: of the section `model` besides.
        plugin: whether its layers are emulated.
    """

    hidden: str
    inputs: int = 64
    outputs: int = 10
    batch: int = 256
    settings: str = "block: residual, activation: gelu, norm: layer"

    def write(self, folder: Path, name: str) -> Path:
        """The configuration and its data; returns the configuration's path."""
        generator = np.random.default_rng(0)
        values = generator.standard_normal((ROWS, self.inputs + 1), dtype=np.float32)
        if self.outputs > 1:
            values[:, -1] = np.arange(ROWS) % self.outputs
        np.save(folder / f"{name}.npy", values)
        path = folder / f"{name}.yaml"
        path.write_text(
            f"""\
data: {{source: npy, path: {name}.npy, target: "{self.inputs}", split: {{validation: 0, test: 0}}}}
model: {{hidden: {self.hidden}, {self.settings}}}
loss: {"cross_entropy" if self.outputs > 1 else "mse"}
training: {{global_batch_size: {self.batch}}}
optimizer: {{name: adamw, lr: 1e-4}}
parallel: {{stages: 2, micro_batches: 8}}
""",
            encoding="utf-8",
        )
        return path


REAL: Mapping[str, Model] = MappingProxyType(
    {
        "even": Model("{width: 512, depth: 12}"),
        "pyramid": Model("[1024, 1024, 512, 512, 256, 256, 128, 64]"),
        "bottleneck": Model("[1024, 512, 128, 32, 128, 512, 1024]", settings=PLAIN),
        "wide input": Model("{width: 512, depth: 6}", inputs=2048),
        "many classes": Model("{width: 512, depth: 6}", outputs=4096),
        "gated": Model("{width: 384, depth: 8}", settings="block: gated, activation: silu, norm: rms, dropout: 0.1"),
    }
)
"""Real compute on two ranks."""

CHOICES: Mapping[str, Model] = MappingProxyType(
    {
        **{name: replace(model, batch=64) for name, model in REAL.items()},
        "narrow": Model("{width: 128, depth: 16}", batch=64),
        "one layer": Model("[2048]", inputs=512, batch=64, settings=PLAIN),
        "many rows": Model("{width: 256, depth: 8}", batch=1024),
        "tapered": Model("[768, 640, 512, 640, 640, 128]", inputs=124, outputs=128, batch=64, settings=PLAIN),
    }
)
"""Of which all ways to run them are tried; small batches, which leave few of them."""

SCHEDULES = ("gpipe", "1f1b", "interleaved-1f1b", "zb-h1", "zb-h2", "interleaved-zb", "zb-v", "zb-auto")
VIRTUAL_STAGES = {"interleaved-1f1b": 2, "interleaved-zb": 2, "zb-v": 2}


def emulated_model(seconds: tuple[float, ...]) -> Model:
    """Layers that sleep: each of `seconds` is a layer's forward, and as long for each of its gradients."""
    groups = ", ".join(f"{{width: 64, block: {{name: emulated, seconds: {own}}}}}" for own in seconds)
    return Model(f"[{groups}]", settings="activation: relu", outputs=1, batch=64)


EMULATED: Mapping[str, Model] = MappingProxyType(
    {
        "emulated, even": emulated_model((0.003,) * 16),
        "emulated, falling": emulated_model((0.006,) * 4 + (0.0045,) * 4 + (0.003,) * 4 + (0.0015,) * 4),
        "emulated, one slow": emulated_model((0.002,) * 9 + (0.008,) + (0.002,) * 8),
    }
)
"""Sleeping layers on four and eight ranks."""


def real_settings(name: str) -> Iterator[Setting]:
    """For two ranks: over the models all schedules, and micro-batches from 1 to 32."""
    turn = list(REAL).index(name)
    counts = (1, 2, 4, 8, 16, 32)
    for index, schedule in enumerate(SCHEDULES):
        if (index + turn) % 2:
            count = counts[(index + turn // 2) % len(counts)]
            yield _pipeline(2, schedule, max(2, count) if schedule in VIRTUAL_STAGES else count)
    yield _pipeline(2, "1f1b", 8, "elementwise" if turn % 2 else 2)
    yield Setting(num_replicas=2, num_micro_batches=1 + turn % 2, zero_stage=turn // 2 % 2)


def emulated_settings(name: str, num_stages: int) -> Iterator[Setting]:
    """For four or eight ranks."""
    turn = list(EMULATED).index(name)
    counts = (8, 16, 4, 8)
    for index, schedule in enumerate(SCHEDULES):
        count = counts[(index + turn) % len(counts)]
        if (index + turn + num_stages // 4) % 2:
            yield _pipeline(num_stages, schedule, max(num_stages, count) if schedule in VIRTUAL_STAGES else count)


def _pipeline(num_stages: int, schedule: str, num_micro_batches: int, recompute: Recompute = 0) -> Setting:
    return Setting(
        num_stages=num_stages,
        num_virtual_stages=VIRTUAL_STAGES.get(schedule, 1),
        num_micro_batches=num_micro_batches,
        schedule=schedule,
        recompute=recompute,
    )
