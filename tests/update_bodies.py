"""Training with each `gradients` setting: bodies that run on ranks, and what one process says."""

import copy
import time
from dataclasses import dataclass, field

import torch
import torch.distributed as dist
from equality import NUM_STEPS, SEED, SHAPE, Case, _evaluation, _named, batch, build, micro_batches

from pipemlp.config.errors import RunFailedError
from pipemlp.config.gradients import GradientsConfig, Local
from pipemlp.engine.gradient_sums import GradientSums
from pipemlp.engine.optimizer import build_optimizer
from pipemlp.engine.private.store import default_store
from pipemlp.model.dropout import DropoutKey
from pipemlp.model.whole import build_model
from pipemlp.planning.layers import describe_layers
from pipemlp.training.turns import Turns


@dataclass
class Told:
    """What a rank saw.

    Args:
        losses: of every step, of the global batch.
        parameters: after the last step.
        judged: the same as an evaluation sees them.
        outputs: of an evaluation, on the last stage.
        bytes_sent, num_steps: of the exchange.
        error: what ended it.
        behind, most_ahead: staleness of an asynchronous update.
        warnings: of an asynchronous update.
        left_out: what pushes keep for the next ones.
    """

    losses: list[float]
    parameters: dict[str, torch.Tensor]
    judged: dict[str, torch.Tensor]
    outputs: torch.Tensor | None
    bytes_sent: float = 0.0
    num_steps: int = 0
    error: str = ""
    behind: dict[int, int] | None = None
    most_ahead: int = 0
    warnings: tuple[str, ...] = ()
    left_out: dict[str, torch.Tensor] = field(default_factory=dict)


def steps(case: Case, num_steps: int = NUM_STEPS, precision: str = "fp32", poisoned: int | None = None) -> Told:
    """Body: train some steps in common; the second batch of replica `poisoned` is not finite."""
    pipeline = build(case, precision)
    told = Told([], {}, {}, None)
    before = _named(pipeline)
    for step in range(num_steps):
        own = micro_batches(case, pipeline.plan, step)
        if step == 1 and pipeline.place.replica == poisoned:
            own[0][0][0].fill_(float("nan"))
        before = _named(pipeline)
        pipeline.train_batch(iter(own), step=step, learning_rate=case.optimizer_config().lr)
        if pipeline.refused_step(settle=True) == step:
            told.error = str(pipeline.trace_batch(iter(own), step=step))
            break
        told.losses.append(float(pipeline.batch_loss()))
    told.parameters = _named(pipeline)
    if told.error:
        told.judged = before
        return told
    with pipeline.update.judged():
        told.judged = _named(pipeline)
        outputs = pipeline.predict_batch(*_evaluation(case))
        told.outputs = torch.cat(outputs) if outputs else None
    told.bytes_sent, told.num_steps = pipeline.update.meter.bytes_sent, pipeline.update.meter.num_steps
    pipeline.update.end()
    return told


def turns(
    case: Case, num_steps: int, slow: int | None = None, slow_seconds: float = 0.02, poisoned: int | None = None
) -> Told:
    """Body: asynchronous steps, by turns; replica `slow` sleeps in each, those of `poisoned` are not finite."""
    pipeline = build(case)
    place, num_replicas = pipeline.place, case.replicas
    told = Told([], {}, {}, None)
    own_turns = Turns(default_store(), pipeline.pipe_group, place.replica)
    # the store is that of all tests on these ranks: a stretch of its own
    start = 1000 * num_replicas * _next_stretch()
    for index in own_turns.between(start, start + num_steps * num_replicas):
        own = _slice(case, index % num_replicas)
        if place.replica == poisoned:
            own[0][0][0].fill_(float("nan"))
        if place.replica == slow:
            time.sleep(slow_seconds)
        pipeline.train_batch(iter(own), step=0, learning_rate=0.01, slice_index=index % num_replicas)
        told.losses.append(float(pipeline.replica_loss()))
    with pipeline.update.judged():
        told.parameters = told.judged = _named(pipeline)
        try:
            told.warnings = tuple(pipeline.update.warnings())
        except RunFailedError as error:
            told.error = str(error)
    pipeline.update.end()
    assert pipeline.update.staleness is not None
    told.behind, told.most_ahead = dict(pipeline.update.staleness.behind), pipeline.update.staleness.most_ahead
    told.num_steps = pipeline.update.meter.num_steps
    return told


def partly_poisoned(case: Case, num_steps: int) -> Told:
    """Body: asynchronous steps; in each, one value of one gradient of the last stage is not finite, on all replicas."""
    pipeline = build(case)
    told = Told([], _named(pipeline), {}, None)
    update, place = pipeline.update, pipeline.place
    take_step = update.step

    def step(sums: GradientSums, learning_rate: float) -> None:
        if place.stage == case.stages - 1:
            update._gradients[0].values[0] = float("inf")
        take_step(sums, learning_rate)

    update.step = step
    for _ in range(num_steps):
        pipeline.train_batch(iter(_slice(case, place.replica)), step=0, learning_rate=0.01, slice_index=place.replica)
    with update.judged():
        told.judged = _named(pipeline)
        try:
            update.warnings()
        except RunFailedError as error:
            told.error = str(error)
    update.end()
    told.behind = dict(update.staleness.behind)
    told.left_out = {name: value.clone() for name, value in update.state().items()}
    return told


def _next_stretch() -> int:
    number = torch.zeros((), dtype=torch.int64)
    if dist.get_rank() == 0:
        number.fill_(default_store().add("stretches of these tests", 1))
    dist.broadcast(number, src=0)
    return int(number)


def _slice(case: Case, replica: int) -> list:
    """A replica's slice of the first global batch, whoever takes it."""
    plan = case.plan()
    numeric, categorical, target = batch(0, case.dtype)
    weight = torch.full((len(target),), plan.num_micro_batches * plan.num_replicas / len(target), dtype=case.dtype)
    share = plan.num_micro_batches * plan.micro_batch_rows
    start = replica * share
    slices = [slice(i, i + plan.micro_batch_rows) for i in range(start, start + share, plan.micro_batch_rows)]
    return [((numeric[s], categorical[s]), (target[s], weight[s])) for s in slices]


def local_in_one_process(case: Case, num_steps: int) -> dict[str, torch.Tensor]:
    """What local updates come to: a model per replica, each with its own optimizer and rows, and the outer step."""
    options = case.gradients.update
    assert isinstance(options, Local)
    first = build_model(describe_layers(case.model(), SHAPE), SEED, dtype=case.dtype)
    models = [copy.deepcopy(first) for _ in range(case.replicas)]
    optimizers = [build_optimizer(case.optimizer_config(), model.parameters()) for model in models]
    common = [parameter.detach().clone() for parameter in first.parameters()]
    momentum = [torch.zeros_like(parameter) for parameter in common]
    loss_function = case.loss_function()
    for step in range(num_steps):
        for replica, (model, optimizer) in enumerate(zip(models, optimizers, strict=True)):
            numeric, categorical, target = (values.chunk(case.replicas)[replica] for values in batch(step, case.dtype))
            outputs = model.train()(numeric, categorical, DropoutKey(SEED, step, replica * len(target)))
            weight = torch.full((len(target),), 1 / len(target), dtype=case.dtype)
            optimizer.zero_grad()
            loss_function(outputs, (target, weight)).backward()
            if case.clip_norm is not None:
                torch.nn.utils.clip_grad_norm_(model.parameters(), case.clip_norm)
            optimizer.step()
        if (step + 1) % options.local_steps == 0:
            _outer_step(models, common, momentum, options)
    if num_steps % options.local_steps:  # of a round that is not whole, the average without the outer optimizer
        everyone = zip(*(model.parameters() for model in models), strict=True)
        means = [sum(values).detach() / len(values) for values in everyone]
        return {name: mean for (name, _), mean in zip(models[0].named_parameters(), means, strict=True)}
    return {name: value.detach().clone() for name, value in models[0].named_parameters()}


@torch.no_grad()
def _outer_step(models: list, common: list, momentum: list, options: Local) -> None:
    everyone = zip(*(model.parameters() for model in models), strict=True)
    for own, velocity, values in zip(common, momentum, everyone, strict=True):
        change = sum(values) / len(values) - own
        velocity.mul_(options.outer_momentum).add_(change)
        own.add_(change + options.outer_momentum * velocity, alpha=options.outer_lr)
        for value in values:
            value.copy_(own)


def local(case: Case, num_steps: int) -> Told:
    """Body: as `steps`, and the parameters are those after the end."""
    pipeline = build(case)
    told = Told([], {}, {}, None)
    for step in range(num_steps):
        own = micro_batches(case, pipeline.plan, step)
        pipeline.train_batch(iter(own), step=step, learning_rate=case.optimizer_config().lr)
    alone = _named(pipeline)
    with pipeline.update.judged():
        told.judged = _named(pipeline)
    assert all(torch.equal(value, alone[name]) for name, value in _named(pipeline).items()), "training must not notice"
    pipeline.update.end()
    told.parameters = _named(pipeline)
    told.bytes_sent, told.num_steps = pipeline.update.meter.bytes_sent, pipeline.update.meter.num_steps
    return told


def gradients(**settings: object) -> GradientsConfig:
    """A section as a user writes it."""
    return GradientsConfig.model_validate(settings)
