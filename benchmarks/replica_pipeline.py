"""The fixed model in the product's pipeline: one stage, as many replicas as there are ranks, one way to update."""

from collections.abc import Mapping
from itertools import count

import paced  # noqa: F401 - registers the block
import torch
import torch.distributed as dist
from exchange_compression import ROWS, WIDTH
from ours_schedules import SEED, hidden_layers

from pipemlp.config.gradients import GradientsConfig
from pipemlp.config.training import Sgd
from pipemlp.engine.pipeline import Pipeline
from pipemlp.engine.private.store import default_store
from pipemlp.planning.plan import Plan
from pipemlp.schedule.methods import make_schedule
from pipemlp.training.turns import Turns

LEARNING_RATE = 0.01
TIMEOUT_SECONDS = 300.0
_stretches = count()


class ReplicaPipeline:
    """Trains on one batch of random rows again and again.

    Args:
        gradients: the section.
        block: of every layer: a name, or with options.
        depth: layers of 1,024.
    """

    def __init__(
        self, gradients: Mapping[str, object], block: str | Mapping[str, object] = "plain", depth: int = 4
    ) -> None:
        self._num_replicas = dist.get_world_size()
        plan = Plan(
            boundaries=(0, depth),
            schedule=make_schedule("1f1b", 1, 1, 1),
            num_replicas=self._num_replicas,
            micro_batch_rows=ROWS,
            zero_stage=0,
            recompute=0,
        )
        model = {"hidden": {"width": WIDTH, "depth": depth}, "block": block, "activation": "relu"}
        self.pipeline = Pipeline(
            hidden_layers(model, WIDTH),
            plan,
            optimizer=Sgd(lr=LEARNING_RATE),
            loss=lambda outputs, labels: (outputs - labels[0]).square().mean(),
            clip_norm=None,
            precision="fp32",
            seed=SEED,
            timeout_seconds=TIMEOUT_SECONDS,
            gradients=GradientsConfig.model_validate(gradients),
        )
        generator = torch.Generator().manual_seed(dist.get_rank())
        inputs, target = torch.randn(2, ROWS, WIDTH, generator=generator)
        self._batch = [(inputs, (target, torch.ones(ROWS)))]
        self._turns = Turns(default_store(), None, dist.get_rank())

    @property
    def meter(self) -> "Meter":  # type: ignore[name-defined]  # noqa: F821
        """What the exchanges cost so far."""
        return self.pipeline.update.meter

    def train(self, num_steps: int) -> None:
        """So many steps of all replicas together; asynchronous replicas share their slices, as in a run."""
        if self.pipeline.is_asynchronous:
            self._train_apart(num_steps)
            return
        for step in range(num_steps):
            self.pipeline.train_batch(self._batch, step=step, learning_rate=LEARNING_RATE)

    def _train_apart(self, num_steps: int) -> None:
        start = next(_stretches) * 10**6
        for taken in self._turns.between(start, start + num_steps * self._num_replicas):
            index = taken % self._num_replicas
            self.pipeline.train_batch(self._batch, step=taken - start, learning_rate=LEARNING_RATE, slice_index=index)
        with self.pipeline.update.judged():
            pass  # all have stopped, and all have the same parameters

    def end(self) -> None:
        """No more steps."""
        self.pipeline.update.end()
