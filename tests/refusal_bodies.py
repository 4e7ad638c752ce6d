"""Training with a step whose numbers are lost in a place that is chosen."""

import torch
from equality import Case, _named, build, micro_batches

from pipemlp.config.errors import RunFailedError
from pipemlp.config.root import RunConfig
from pipemlp.engine.pipeline import Pipeline
from pipemlp.training.weight_check import check_weights

LOST_STEP = 1


def with_a_lost_step(case: Case, precision: str, where: str, layer: int, micro_batch: int) -> tuple[list, dict]:
    """Body: train four steps; in one of them a layer's `output` or its `gradient` is not finite in one micro-batch.

    Returns:
        For every step, which one is known to be refused, and where it was lost; and the parameters.
    """
    pipeline, now = build(case, precision), {"step": 0}

    def lose(module, inputs, output):
        if now["step"] != LOST_STEP or pipeline.at.micro_batch != micro_batch or pipeline.place.replica != 0:
            return None
        if where == "output":
            return output * float("inf")
        if output.requires_grad:
            output.register_hook(lambda gradient: gradient * float("nan"))
        return None

    for name, module in pipeline.module.named_children():
        if name == str(layer):
            module.register_forward_hook(lose)
    told = []
    for step in range(4):
        now["step"] = step
        own = micro_batches(case, pipeline.plan, step)
        pipeline.train_batch(iter(own), step=step, learning_rate=case.optimizer_config().lr)
        refused = pipeline.refused_step(settle=False)
        found = None
        if refused is not None:
            now["step"] = refused
            found = str(pipeline.trace_batch(iter(micro_batches(case, pipeline.plan, refused)), step=refused))
        told.append((refused, found))
        if refused is not None and not case.skips:
            break
    return told, _named(pipeline)


def with_an_infinite_loss(case: Case) -> tuple:
    """Body: in one step the loss is infinite, and its gradient is not."""
    pipeline, now = build(case), {"step": 0}
    usual = case.loss_function()

    def infinite(outputs, labels):
        return usual(outputs, labels) + (float("inf") if now["step"] == LOST_STEP else 0.0)

    for stage in pipeline._executor.stages.values():
        stage.loss = None if stage.loss is None else infinite
    for step in range(3):
        now["step"] = step
        own = micro_batches(case, pipeline.plan, step)
        pipeline.train_batch(iter(own), step=step, learning_rate=case.optimizer_config().lr)
        refused = pipeline.refused_step(settle=False)
        if refused is not None:
            now["step"] = refused
            found = pipeline.trace_batch(iter(micro_batches(case, pipeline.plan, refused)), step=refused)
            return refused, str(found), pipeline.update.votes.left_out_by_all
    return None, "", False


def of_steps(case: Case, precision: str, steps: tuple[int, ...]) -> dict:
    """Body: the parameters after these steps alone."""
    pipeline = build(case, precision)
    for step in steps:
        own = micro_batches(case, pipeline.plan, step)
        pipeline.train_batch(iter(own), step=step, learning_rate=case.optimizer_config().lr)
    return _named(pipeline)


def changed_on_one_replica(case: Case, what: str) -> str:
    """Body: something changes on the last rank, and nobody said so."""
    config = RunConfig.model_validate({"data": {"source": "digits"}, "model": {"hidden": [8]}})
    pipeline = build(case)
    pipeline.train_batch(iter(micro_batches(case, pipeline.plan, 0)), step=0, learning_rate=0.1)
    check_weights(pipeline, "step 1", config)
    if torch.distributed.get_rank() == torch.distributed.get_world_size() - 1:
        with torch.no_grad():
            _change(pipeline, what)
    try:
        check_weights(pipeline, "step 2", config)
    except RunFailedError as error:
        return str(error)
    return ""


def _change(pipeline: Pipeline, what: str) -> None:
    values = next(pipeline.module.parameters()).view(-1)
    if what == "a bit of a weight":
        values[0] *= 1.0 + 2.0**-20
    elif what == "two weights":
        values[:2] = values[:2].flip(0)
    else:
        pipeline.shares()[0][0].state[what].view(-1)[0] += 1.0
