"""What stands beside weights on disk so that they are a model again: in `model/`, and in every checkpoint."""

from collections.abc import Callable, Mapping
from pathlib import Path

from pipemlp.checkpoint.manifest import FileEntry, Manifest, fact
from pipemlp.checkpoint.model_files import layer_file, save_index
from pipemlp.checkpoint.pipeline_state import grid_facts
from pipemlp.planning.fingerprint import fingerprint_of
from pipemlp.training.plugins import loaded_plugins
from pipemlp.training.preparation import Preparation
from pipemlp.training.versions import run_versions


def save_index_of(
    directory: Path, preparation: Preparation, step: int, file_of: Callable[[int], str] = layer_file
) -> list[str]:
    """Write the index and the preprocessing of a run's model; returns their names.

    Args:
        directory: of the weights.
        preparation: of the run.
        step: after which they are what they are.
        file_of: the file of a layer.
    """
    return save_index(
        directory,
        preparation.layers,
        model=preparation.config.model,
        shape=preparation.data.shape,
        preprocessing=preparation.data.preprocessing,
        about={"step": step, "loss": preparation.config.chosen_loss.model_dump(mode="json")},
        file_of=file_of,
    )


def manifest_of(
    preparation: Preparation, step: int, files: Mapping[str, FileEntry], *, is_apart: bool = False
) -> Manifest:
    """What the manifest says.

    Args:
        preparation: of the run.
        step: after which the weights are what they are.
        files: all others of the folder.
        is_apart: whether each replica saved weights of its own.
    """
    plan = preparation.plan
    return Manifest(
        step=step,
        num_stages=plan.num_stages,
        num_replicas=plan.num_replicas,
        is_apart=is_apart,
        files=files,
        facts={
            "model": fingerprint_of(preparation.layers),
            **grid_facts(plan),
            "zero_stage": str(plan.zero_stage),
            "precision": preparation.config.precision,
            "data": fact(preparation.data.content),
            **run_versions(),
            "plugins": fact(loaded_plugins()),
        },
    )
