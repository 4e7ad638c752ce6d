"""The competitors: our training loop as the product runs it, and the loops one would write without it.

All of them train the same model from the same weights. The bare loop and DDP run the same modules, our hashed
dropout included, the bare loop by DeepSpeed's own schedule; the stock and the plain loop have torch's dropout and
loss instead. Batches are a list in memory (DDP, which is compared on equal terms, reads ahead with our loader).
Rivals write no records and show nothing.
"""

import io
import json
from collections.abc import Iterator
from dataclasses import replace
from itertools import cycle, islice
from pathlib import Path
from typing import Protocol

import deepspeed
import torch
import torch.distributed as dist
from deepspeed.pipe import PipelineModule
from deepspeed.runtime.pipe.topology import PipeDataParallelTopology
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from pipemlp.engine.deepspeed_config import deepspeed_config
from pipemlp.engine.optimizer import build_optimizer
from pipemlp.engine.place import place_of
from pipemlp.model.build import build_layer
from pipemlp.model.dropout import Dropout, DropoutKey
from pipemlp.model.whole import build_model
from pipemlp.planning.budget import Budget
from pipemlp.training.batches import BatchLoader
from pipemlp.training.building import weighted_loss
from pipemlp.training.preparation import Preparation
from pipemlp.training.timeline import TimelineRecorder
from pipemlp.training.trainer import Trainer
from pipemlp.training.watchers import FirstRankWatcher, SilentWatcher
from pipemlp.training.worker import build_pipeline

CPU = torch.device("cpu")
NUM_KEPT_BATCHES = 16


class Competitor(Protocol):
    """Trains some steps when told to; only `train` is timed."""

    def begin(self, num_steps: int) -> None:
        """Get ready for a round."""

    def train(self) -> None:
        """Run the steps."""

    def end(self) -> float:
        """Finish the round; the loss of its last step (on rank 0)."""


def loader_of(preparation: Preparation) -> BatchLoader:
    """The product's loader for this rank."""
    plan, seed = preparation.plan, preparation.config.run.seed
    return BatchLoader(preparation.data, plan, place_of(plan, dist.get_rank()), seed=seed, device=CPU)


class Ours:
    """The product: Trainer, loader with its thread, records and progress of rank 0 (in a file, not a terminal)."""

    def __init__(self, preparation: Preparation, folder: Path) -> None:
        self._preparation = preparation
        self._folder = folder
        self._num_rounds = 0
        self._pipeline = build_pipeline(preparation)
        self._loader = loader_of(preparation)

    def begin(self, num_steps: int) -> None:
        """A run directory and a trainer of `num_steps` steps."""
        budget = Budget(num_steps, self._preparation.budget.steps_per_epoch, num_steps, num_steps)
        preparation = replace(self._preparation, budget=budget)
        self._num_rounds += 1
        self._run_dir = self._folder / f"round-{self._num_rounds}"
        self._run_dir.mkdir(parents=True, exist_ok=True)
        self._watcher = SilentWatcher()
        if dist.get_rank() == 0:
            self._watcher = FirstRankWatcher(self._run_dir, preparation, io.StringIO())
        every = preparation.config.logging.timeline_every_steps
        timeline = TimelineRecorder(self._run_dir, self._pipeline, every)
        self._trainer = Trainer(preparation, self._pipeline, self._loader, CPU, self._watcher, timeline)

    def train(self) -> None:
        """The whole of `Trainer.run`; with no rows held out it evaluates nothing."""
        self._outcome = self._trainer.run()

    def end(self) -> float:
        """Close the records; the last loss in them."""
        if not isinstance(self._watcher, FirstRankWatcher):
            return 0.0
        self._watcher.finish(self._outcome)
        last = (self._run_dir / "metrics.jsonl").read_text(encoding="utf-8").splitlines()[-1]
        return float(json.loads(last)["loss"])


class TorchDropout(nn.Dropout):
    """torch's dropout where our layers pass a key, which it ignores."""

    def forward(self, x: torch.Tensor, key: object = None) -> torch.Tensor:
        """x [n, width] -> [n, width]."""
        return super().forward(x)


def stock_layers(preparation: Preparation) -> list[nn.Module]:
    """The same layers with the same weights; without embeddings the input layer is the identity."""
    assert not preparation.data.shape.cardinalities
    layers = [build_layer(layer, preparation.config.run.seed) for layer in preparation.layers]
    for layer in layers:
        for name, module in layer.named_children():
            if isinstance(module, Dropout):
                setattr(layer, name, TorchDropout(module.rate))
    return [nn.Identity(), *layers[1:]]


def kept_micro_batches(preparation: Preparation) -> list[list[tuple[torch.Tensor | None, torch.Tensor | None]]]:
    """The first full batches in our order, each as micro-batches of (numeric inputs, target)."""
    budget = preparation.budget
    num_full = preparation.data.shape.num_rows[0] // preparation.config.training.global_batch_size
    steps = [divmod(step, budget.steps_per_epoch) for step in range(min(num_full, NUM_KEPT_BATCHES))]
    return [
        [
            (None if inputs is None else inputs[0].clone(), None if labels is None else labels[0].clone())
            for inputs, labels in batch
        ]
        for batch in loader_of(preparation).training_batches(steps)
    ]


class KeyedLayer(nn.Module):
    """One of our layers where DeepSpeed calls with the input alone: it counts the micro-batches for its dropout."""

    def __init__(self, layer: nn.Module, preparation: Preparation) -> None:
        super().__init__()
        self.layer = layer
        self._seed = preparation.config.run.seed
        self._plan = preparation.plan
        self._count = 0

    def forward(self, x: object) -> torch.Tensor:
        """The layer's output in training."""
        step, micro_batch = divmod(self._count, self._plan.num_micro_batches)
        self._count += 1
        return self.layer(x, DropoutKey(self._seed, step, micro_batch * self._plan.micro_batch_rows))


class Bare:
    """DeepSpeed's own schedule and `train_batch` in a loop, on our layers, our loss, and batches in memory."""

    def __init__(self, preparation: Preparation, folder: Path) -> None:
        config, plan = preparation.config, preparation.plan
        layers = [build_layer(layer, config.run.seed) for layer in preparation.layers]
        module = PipelineModule(
            layers=[KeyedLayer(layer, preparation) for layer in layers],
            topology=PipeDataParallelTopology(num_pp=plan.num_stages, num_dp=plan.num_replicas),
            loss_fn=weighted_loss(config),
            partition_method="uniform",
        )
        assert tuple(module.parts) == plan.boundaries, (module.parts, plan.boundaries)
        self._engine, _, _, _ = deepspeed.initialize(
            model=module,
            optimizer=build_optimizer(config.optimizer, module.parameters()),
            config=deepspeed_config(plan, clip_norm=config.training.clip_norm, precision=config.precision),
            dist_init_required=False,
        )
        budget = preparation.budget
        num_full = preparation.data.shape.num_rows[0] // config.training.global_batch_size
        steps = [divmod(step, budget.steps_per_epoch) for step in range(min(num_full, NUM_KEPT_BATCHES))]
        self._batches = cycle([list(batch) for batch in loader_of(preparation).training_batches(steps)])

    def begin(self, num_steps: int) -> None:
        """Nothing but the number."""
        self._num_steps = num_steps

    def train(self) -> None:
        """The bare loop."""
        for batch in islice(self._batches, self._num_steps):
            self._loss = self._engine.train_batch(data_iter=iter(batch))

    def end(self) -> float:
        """The last loss."""
        return float(self._loss)


class StockDeepSpeed:
    """`deepspeed.initialize` on a stock PipelineModule of the same cut, and `train_batch` in a loop."""

    def __init__(self, preparation: Preparation, folder: Path) -> None:
        config, plan = preparation.config, preparation.plan
        module = PipelineModule(
            layers=stock_layers(preparation),
            topology=PipeDataParallelTopology(num_pp=plan.num_stages, num_dp=plan.num_replicas),
            loss_fn=nn.CrossEntropyLoss(),
            partition_method="uniform",
        )
        assert tuple(module.parts) == plan.boundaries, (module.parts, plan.boundaries)
        self._engine, _, _, _ = deepspeed.initialize(
            model=module,
            optimizer=build_optimizer(config.optimizer, module.parameters()),
            config=deepspeed_config(plan, clip_norm=config.training.clip_norm, precision=config.precision),
            dist_init_required=False,
        )
        self._batches = cycle(kept_micro_batches(preparation))

    def begin(self, num_steps: int) -> None:
        """Nothing but the number."""
        self._num_steps = num_steps

    def train(self) -> None:
        """The bare loop."""
        for batch in islice(self._batches, self._num_steps):
            self._loss = self._engine.train_batch(data_iter=iter(batch))

    def end(self) -> float:
        """The last loss."""
        return float(self._loss)


class Ddp:
    """DistributedDataParallel with torch's optimizer, fed by our loader and its thread."""

    def __init__(self, preparation: Preparation, folder: Path) -> None:
        self._preparation = preparation
        self._seed = preparation.config.run.seed
        self._first_row = dist.get_rank() * preparation.plan.micro_batch_rows
        self._model = DistributedDataParallel(build_model(preparation.layers, self._seed))
        self._optimizer = build_optimizer(preparation.config.optimizer, self._model.parameters())
        self._loss_fn = weighted_loss(preparation.config)
        self._loader = loader_of(preparation)

    def begin(self, num_steps: int) -> None:
        """Nothing but the number."""
        self._num_steps = num_steps

    def train(self) -> None:
        """The usual loop."""
        steps_per_epoch = self._preparation.budget.steps_per_epoch
        steps = (divmod(step, steps_per_epoch) for step in range(self._num_steps))
        for step, batch in enumerate(self._loader.training_batches(steps)):
            (inputs, labels) = next(batch)
            self._optimizer.zero_grad()
            key = DropoutKey(self._seed, step, self._first_row)
            self._loss = self._loss_fn(self._model(*inputs, key), labels)
            self._loss.backward()
            self._optimizer.step()

    def end(self) -> float:
        """The last loss, over both replicas."""
        loss = self._loss.detach().clone()
        dist.all_reduce(loss)
        return float(loss) / dist.get_world_size()


class Plain:
    """One process, one model, batches in memory."""

    def __init__(self, preparation: Preparation, folder: Path) -> None:
        self._model = nn.Sequential(*stock_layers(preparation))
        self._optimizer = build_optimizer(preparation.config.optimizer, self._model.parameters())
        self._batches: Iterator = cycle(kept_micro_batches(preparation))
        self._loss_fn = nn.CrossEntropyLoss()

    def begin(self, num_steps: int) -> None:
        """Nothing but the number."""
        self._num_steps = num_steps

    def train(self) -> None:
        """The textbook loop."""
        for ((inputs, target),) in islice(self._batches, self._num_steps):
            self._optimizer.zero_grad()
            self._loss = self._loss_fn(self._model(inputs), target)
            self._loss.backward()
            self._optimizer.step()

    def end(self) -> float:
        """The last loss."""
        return float(self._loss)


RIVALS = {"bare": Bare, "stock": StockDeepSpeed, "ddp": Ddp, "plain": Plain}
