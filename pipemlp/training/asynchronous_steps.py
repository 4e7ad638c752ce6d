"""Steps of replicas that do not wait for each other, from one evaluation to the next.

    replica 0   slice 0, slice 2, slice 3, slice 5 ...     pause | evaluate
    replica 1   slice 1, ......., slice 4, .......         pause | evaluate

What is shown meanwhile is replica 0's own loss. Where somebody asks for a stop, all pause after the next whole batch.
"""

import math
import time
from collections.abc import Callable
from dataclasses import dataclass

import torch.distributed as dist

from pipemlp.engine.pipeline import Pipeline
from pipemlp.engine.private.store import default_store
from pipemlp.planning.budget import Budget
from pipemlp.training.batches import BatchLoader
from pipemlp.training.doing import Doing
from pipemlp.training.refusals import Refusals
from pipemlp.training.turns import Turns

Show = Callable[[int, float, float], None]
"""Told of a step, its loss and the slices per second since this process began."""


@dataclass
class AsynchronousSteps:
    """This replica's part of them.

    Args:
        pipeline: with an asynchronous update.
        loader: of slices.
        budget: of the run.
        learning_rate: of a step.
        every_steps: between two that are shown.
        show: shows one.
        doing: told of every step of this replica.
        refusals: told of every slice of this replica.
        is_asked: whether somebody asks for a stop.
    """

    pipeline: Pipeline
    loader: BatchLoader
    budget: Budget
    learning_rate: Callable[[int], float]
    every_steps: int
    show: Show
    doing: Doing
    refusals: Refusals
    is_asked: Callable[[], bool]

    def __post_init__(self) -> None:
        place = self.pipeline.place
        store = default_store()
        run = store.add(f"pipemlp/trainings of rank {dist.get_rank()}", 1)  # the same on all ranks
        self._turns = Turns(
            store,
            self.pipeline.pipe_group,
            place.replica,
            run,
            self.pipeline.engine.device,
            in_batch=self.pipeline.plan.num_replicas,
            is_asked=self.is_asked,
        )
        self._shown = 0
        self._seconds = 0.0
        self._first: int | None = None
        """The slice with which this process began; after a resume not the training's first."""

    def run(self, start: int, stop: int) -> int:
        """All replicas together take the steps start..stop - 1: as many slices of each as there are replicas.

        Returns:
            The step before which they have stopped: `stop`, or an earlier one that somebody asked for.
        """
        num_replicas = self.pipeline.plan.num_replicas
        self._shown = max(self._shown, start // self.every_steps)
        self._first = start * num_replicas if self._first is None else self._first
        began = time.perf_counter()
        for slice_index in self._turns.between(start * num_replicas, stop * num_replicas):
            step, index = divmod(slice_index, num_replicas)
            self.doing(f"step {step + 1}")
            batch = self.loader.slice_of_batch(*divmod(step, self.budget.steps_per_epoch), index)
            self.pipeline.train_batch(batch, step=step, learning_rate=self.learning_rate(step), slice_index=index)
            self.refusals.look(settle=False, slice_index=index)
            if self.pipeline.place.replica == 0 and (step + 1) // self.every_steps > self._shown:
                self._shown = (step + 1) // self.every_steps
                value, weight = float(self.pipeline.replica_loss()), self._weight(step, index)
                seconds = self._seconds + time.perf_counter() - began
                if math.isfinite(value) and weight > 0.0:
                    self.show(step + 1, value / weight, (slice_index + 1 - self._first) / seconds)
        self._seconds += time.perf_counter() - began
        return self._turns.stopped_at // num_replicas

    def _weight(self, step: int, index: int) -> float:
        """Times that a slice counts: with few rows, those of a ragged batch still add up to a whole one."""
        return self.loader.weight_of_slice(step % self.budget.steps_per_epoch, index)
