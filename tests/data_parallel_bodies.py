"""One stage and N replicas, by the pipeline and by torch's DistributedDataParallel: bodies that run on ranks."""

from dataclasses import dataclass, field

import torch
import torch.distributed as dist
from torch.nn.parallel import DistributedDataParallel

from pipemlp.config.root import RunConfig
from pipemlp.data import batch_positions
from pipemlp.engine.optimizer import build_optimizer
from pipemlp.engine.pipeline import Pipeline
from pipemlp.model.losses import build_loss
from pipemlp.model.whole import build_model
from pipemlp.training.batches import BatchLoader
from pipemlp.training.preparation import Preparation, prepare_run

NUM_EPOCHS = 2


@dataclass
class Steps:
    """Loss of the global batch, and this rank's parameters, after every step."""

    losses: list[float] = field(default_factory=list)
    parameters: list[dict[str, torch.Tensor]] = field(default_factory=list)


def by_pipeline(config: dict) -> Steps:
    """Body: as a run trains, with the loader's own order, shares, padding and weights."""
    run = _prepared(config)
    loss = build_loss(run.config.loss)
    pipeline = Pipeline(
        run.layers,
        run.plan,
        optimizer=run.config.optimizer,
        loss=lambda outputs, labels: loss(outputs, *labels),
        clip_norm=None,
        precision="fp32",
        seed=run.config.run.seed,
        timeout_seconds=60,
    )
    loader = BatchLoader(run.data, run.plan, pipeline.place, seed=run.config.run.seed, device=torch.device("cpu"))
    result = Steps()
    for step, batch in enumerate(loader.training_batches(_steps(run))):
        pipeline.train_batch(batch, step=step, learning_rate=run.config.optimizer.lr)
        result.losses.append(float(pipeline.batch_loss()))
        tensors = pipeline.layer_tensors().items()
        result.parameters.append({f"{i}.{n}": t.clone() for i, layer in tensors for n, t in layer.items()})
    return result


def by_torch(config: dict) -> Steps:
    """Body: as one would write it by hand, on real rows only; the replicas share each batch in slices of equal size,
    of which the last ones are short at the end of an epoch."""
    run = _prepared(config)
    model = build_model(run.layers, run.config.run.seed)
    replicated = DistributedDataParallel(model)
    optimizer = build_optimizer(run.config.optimizer, model.parameters())
    loss = build_loss(run.config.loss)
    size = run.config.training.global_batch_size
    share = size // dist.get_world_size()
    result = Steps()
    for epoch, step in _steps(run):
        positions = batch_positions(run.data.shape.num_rows[0], run.config.run.seed, epoch, step, size)
        own = positions[dist.get_rank() * share : (dist.get_rank() + 1) * share]
        inputs = (torch.from_numpy(array) for array in run.data.inputs("train", own))
        target = torch.from_numpy(run.data.targets("train", own)[0])
        sum_of_own = loss.per_row(replicated(*inputs), target).sum()
        optimizer.zero_grad()
        # DDP averages over the replicas, while the loss is the mean over the rows of the whole batch
        (sum_of_own * dist.get_world_size() / len(positions)).backward()
        optimizer.step()
        total = sum_of_own.detach().clone()
        dist.all_reduce(total)
        result.losses.append(float(total) / len(positions))
        result.parameters.append({name: value.detach().clone() for name, value in model.named_parameters()})
    return result


def own_positions(config: dict) -> list[list[int]]:
    """Body: which rows of each global batch this rank's loader reads with a weight above 0."""
    run = _prepared(config)
    seen: list[list[int]] = []

    class Noting:
        shape = run.data.shape

        def inputs(self, split, positions):
            seen.append(positions.tolist())
            return run.data.inputs(split, positions)

        def targets(self, split, positions):
            return run.data.targets(split, positions)

    from pipemlp.engine.place import place_of

    place = place_of(run.plan, dist.get_rank())
    loader = BatchLoader(Noting(), run.plan, place, seed=run.config.run.seed, device=torch.device("cpu"))
    weights = [torch.cat([labels[1] for _, labels in batch]) for batch in loader.training_batches(_steps(run))]
    return [[p for p, w in zip(own, weight, strict=True) if w > 0] for own, weight in zip(seen, weights, strict=True)]


def _prepared(config: dict) -> Preparation:
    return prepare_run(RunConfig.model_validate(config))


def _steps(run: Preparation) -> list[tuple[int, int]]:
    return [(epoch, step) for epoch in range(NUM_EPOCHS) for step in range(run.budget.steps_per_epoch)]
