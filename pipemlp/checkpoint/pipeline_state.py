"""A pipeline's tensors as files of a checkpoint, and back, whatever grid and cut they were saved with."""

from collections.abc import Mapping

from torch import Tensor

from pipemlp.checkpoint.contents import Contents, update_file
from pipemlp.checkpoint.manifest import Manifest, fact
from pipemlp.checkpoint.state_files import keyed, layer_state_file
from pipemlp.engine.pipeline import Pipeline
from pipemlp.planning.plan import Plan


def tensors_by_file(pipeline: Pipeline) -> dict[str, dict[str, Tensor]]:
    """What this rank writes: live tensors by file and key. What all replicas have the same they share out by layers."""
    place, (shares, replicated) = pipeline.place, pipeline.shares()
    files: dict[str, dict[str, Tensor]] = {}
    for layer, tensors in keyed(piece for share in shares for piece in share.pieces()).items():
        if not replicated:
            files[layer_state_file(layer, place.replica)] = tensors
        elif layer % place.num_replicas == place.replica:
            files[layer_state_file(layer, 0)] = tensors
    state = pipeline.update.state()
    return files | ({update_file(place.stage, place.replica): state} if state else {})


def grid_facts(plan: Plan) -> dict[str, str]:
    """What has to be the same for every rank to find its own again; else layers are put together anew."""
    return {"boundaries": fact(plan.boundaries), "placement": plan.schedule.placement}


def is_same_grid(manifest: Manifest, plan: Plan) -> bool:
    """Whether a plan has the stages, replicas and cut of a checkpoint."""
    own: Mapping[str, str] = grid_facts(plan)
    return (manifest.num_stages, manifest.num_replicas) == (plan.num_stages, plan.num_replicas) and all(
        manifest.facts.get(name) == value for name, value in own.items()
    )


def has_own_copies(pipeline: Pipeline) -> bool:
    """Whether every replica has weights of its own between two steps: with local updates."""
    return pipeline.replicas_apart and not pipeline.is_asynchronous


def load_pipeline(pipeline: Pipeline, contents: Contents) -> bool:
    """Take this rank's tensors from a checkpoint; returns whether all of it was of use: residuals and averages are not
    on another grid.

    Raises:
        ModelFileError: if something is not there.
    """
    place, same = pipeline.place, is_same_grid(contents.manifest, pipeline.plan)
    pipeline.load(contents.layers(place.replica if same else None))
    if same:
        state = contents.update(place.stage, place.replica)
        if state or pipeline.update.state():
            pipeline.update.load_state(state)
    else:
        pipeline.update.begin_anew()
    return same or not contents.has_updates
