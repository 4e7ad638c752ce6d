"""Steps, a checkpoint, another pipeline, more steps: bodies that run on ranks."""

from dataclasses import dataclass
from pathlib import Path

import torch.distributed as dist
from equality import Case, _named, build, micro_batches
from torch import Tensor

from pipemlp.checkpoint.commit import Writing, commit
from pipemlp.checkpoint.contents import Contents
from pipemlp.checkpoint.folder import check_whole, step_folder
from pipemlp.checkpoint.manifest import Manifest
from pipemlp.checkpoint.pipeline_state import grid_facts, has_own_copies, load_pipeline, tensors_by_file
from pipemlp.checkpoint.tensor_files import save_tensors
from pipemlp.engine.pipeline import Pipeline
from pipemlp.engine.updates.groups import stage_group
from pipemlp.engine.updates.local import LocalUpdate

SAVED_STEP, LAST_STEP = 3, 6


@dataclass
class Left:
    """What a rank has after its steps."""

    losses: list[float]
    parameters: dict[str, Tensor]
    judged: dict[str, Tensor]


class Everyone:
    """All ranks of the test."""

    @property
    def rank(self) -> int:
        return dist.get_rank()

    def everyone(self, value):
        found = [value] * dist.get_world_size()
        dist.all_gather_object(found, value)
        return found


def train(case: Case, pipeline: Pipeline, some: range) -> Left:
    losses = []
    for step in some:
        own = micro_batches(case, pipeline.plan, step)
        pipeline.train_batch(iter(own), step=step, learning_rate=case.optimizer_config().lr)
        losses.append(float(pipeline.batch_loss()))
    parameters = _named(pipeline)
    with pipeline.update.judged():
        judged = _named(pipeline)
    return Left(losses, parameters, judged)


def whole(case: Case, precision: str) -> Left:
    """Body: all steps without a break."""
    return train(case, build(case, precision), range(LAST_STEP))


def save(case: Case, precision: str, folder: Path) -> Left:
    """Body: the first steps, and a checkpoint."""
    pipeline = build(case, precision)
    left = train(case, pipeline, range(SAVED_STEP))
    plan, files = pipeline.plan, tensors_by_file(pipeline)

    def write(directory: Path) -> list[str]:
        for name, tensors in files.items():
            save_tensors(directory / name, {key: tensor.clone() for key, tensor in tensors.items()})
        return list(files)

    def describe(entries) -> Manifest:
        apart = has_own_copies(pipeline)
        return Manifest(SAVED_STEP, plan.num_stages, plan.num_replicas, apart, entries, grid_facts(plan))

    commit(folder, SAVED_STEP, Writing(0, write), describe, Everyone(), lambda text: None)
    return left


def go_on(case: Case, precision: str, folder: Path) -> Left:
    """Body: a new pipeline, the checkpoint, the other steps."""
    pipeline = build(case, precision)
    checkpoint = check_whole(folder / step_folder(SAVED_STEP))
    load_pipeline(pipeline, Contents(checkpoint.directory, checkpoint.manifest))
    return train(case, pipeline, range(SAVED_STEP, LAST_STEP))


def go_on_afresh(case: Case, precision: str, folder: Path) -> Left:
    """Body: as `go_on` with local updates on another grid: one that is made where the replicas' average is."""
    pipeline = build(case, precision)
    checkpoint = check_whole(folder / step_folder(SAVED_STEP))
    pipeline.load(Contents(checkpoint.directory, checkpoint.manifest).layers())
    parameters = [parameter for own in pipeline._own_parameters() for parameter in own]
    group, old = stage_group(pipeline.plan, 60.0), pipeline.update
    pipeline.update = LocalUpdate(pipeline.engine, parameters, case.gradients, group, old._flat, old.votes)
    return train(case, pipeline, range(SAVED_STEP, LAST_STEP))
