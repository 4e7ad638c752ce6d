"""A pipeline and a training as a checkpoint left them."""

from pathlib import Path

from torch import Tensor

from pipemlp.checkpoint.contents import TRAINING_FILE, Contents
from pipemlp.checkpoint.folder import read_manifest
from pipemlp.checkpoint.pipeline_state import load_pipeline
from pipemlp.engine.pipeline import Pipeline
from pipemlp.training.position import position_from_text
from pipemlp.training.trainer import Begin
from pipemlp.training.watching import Watcher


def restore(directory: Path, pipeline: Pipeline, watcher: Watcher) -> Begin:
    """Load this rank's tensors, and tell where the training goes on; every rank calls this.

    Args:
        directory: of a checkpoint that was found whole.
        pipeline: as it was built.
        watcher: told what could not be used.

    Raises:
        ModelFileError: if something is not there.
    """
    contents = Contents(directory, read_manifest(directory))
    if not load_pipeline(pipeline, contents):
        watcher.note(
            "another grid than that of the checkpoint: what compression left out, and averages of local updates, "
            "begin anew"
        )
    position = position_from_text(contents.text(TRAINING_FILE), contents.where(TRAINING_FILE))
    best: dict[int, dict[str, Tensor]] = {}
    for layer in pipeline.layer_tensors():
        tensors = contents.best(layer)
        if tensors is not None:
            best[layer] = tensors
    return Begin(position, best or None)
