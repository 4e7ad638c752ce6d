"""What stands beside weights on disk so that they are a model again: in `model/`, and in every checkpoint."""

from collections.abc import Callable
from pathlib import Path

from pipemlp.checkpoint.model_files import layer_file, save_index
from pipemlp.training.preparation import Preparation


def save_index_of(
    directory: Path, preparation: Preparation, step: int, file_of: Callable[[int], str] = layer_file
) -> None:
    """Write the index and the preprocessing of a run's model.

    Args:
        directory: of the weights.
        preparation: of the run.
        step: after which they are what they are.
        file_of: the file of a layer.
    """
    save_index(
        directory,
        preparation.layers,
        model=preparation.config.model,
        shape=preparation.data.shape,
        preprocessing=preparation.data.preprocessing,
        about={"step": step, "loss": preparation.config.chosen_loss.model_dump(mode="json")},
        file_of=file_of,
    )
