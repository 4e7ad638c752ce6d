"""The trained model as a plain torch module: raw columns in, logits or values in the target's own units out."""

import math
import os
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from torch import nn

from pipemlp.checkpoint.contents import TRAINING_FILE, Contents
from pipemlp.checkpoint.folder import (
    FOLDER,
    MODEL_FOLDER,
    Checkpoint,
    check_whole,
    read_manifest,
    saved_steps,
    step_folder,
)
from pipemlp.checkpoint.manifest import MANIFEST_FILE
from pipemlp.checkpoint.model_files import INDEX_FILE, read_index, read_layers
from pipemlp.config.errors import ModelFileError
from pipemlp.data import Preprocessing
from pipemlp.engine.share import VALUE
from pipemlp.model.whole import WholeModel, build_model
from pipemlp.planning.layers import LayerDescription, describe_layers


def checkpoint_layers(checkpoint: Checkpoint, layers: Sequence[LayerDescription]) -> dict[int, dict[str, torch.Tensor]]:
    """The weights of a checkpoint, as they compute: of bf16 the float32 copies rounded, of local updates the average.

    Raises:
        ModelFileError: if it has not all of them.
    """
    source = Contents(checkpoint.directory, checkpoint.manifest).layers()
    rounded = torch.bfloat16 if checkpoint.manifest.facts.get("precision") == "bf16" else torch.float32
    return {
        layer.index: {
            parameter.name: source.read(layer.index, parameter.name, VALUE, 0, math.prod(parameter.shape))
            .to(rounded)
            .float()
            .view(parameter.shape)
            for parameter in layer.parameters
        }
        for layer in layers
    }


class TrainedModel(nn.Module):
    """Standardise, run all layers, give back what the target was measured in.

    Args:
        layers: the whole model, which works on standardised numbers.
        preprocessing: what was fitted on the training rows; also kept as an attribute, for the labels.
    """

    def __init__(self, layers: WholeModel, preprocessing: Preprocessing) -> None:
        super().__init__()
        self.layers = layers
        self.preprocessing = preprocessing
        regression = preprocessing.task == "regression"
        targets = (
            (preprocessing.means, preprocessing.stds)
            if preprocessing.is_autoencoder
            else (preprocessing.target_means, preprocessing.target_stds)
        )
        for name, values in (
            ("input_means", preprocessing.means),
            ("input_stds", preprocessing.stds),
            ("output_means", targets[0] if regression else ()),
            ("output_stds", targets[1] if regression else ()),
        ):
            self.register_buffer(name, torch.tensor(values, dtype=torch.float64), persistent=False)

    def forward(self, numeric: torch.Tensor, categorical: torch.Tensor | None = None) -> torch.Tensor:
        """Numeric columns as they are in the table [n, F] and category codes [n, C] -> outputs [n, outputs].

        Columns come in the order of `preprocessing.numeric` and `preprocessing.categorical`; code 0 is unknown,
        code k the k-th value of the vocabulary. A missing number may be NaN. Classification and multi-label models
        give logits, regressions values in the target's own units.
        """
        scaled = (numeric.double() - self.input_means) / self.input_stds
        outputs = self.layers(scaled.masked_fill(scaled.isnan(), 0.0).float(), categorical)
        if self.output_means.numel():
            outputs = outputs.double() * self.output_stds + self.output_means
        return outputs

    def rows(self, columns: Mapping[str, np.ndarray]) -> tuple[torch.Tensor, torch.Tensor]:
        """Columns by name, each [n] -> what `forward` takes: numeric [n, F] and category codes [n, C].

        Raises:
            DataError: naming the row and column that the model cannot take.
        """
        scaled, codes = self.preprocessing.transform_inputs(columns)
        numeric = torch.from_numpy(scaled).to(self.input_means) * self.input_stds + self.input_means
        return numeric, torch.from_numpy(codes).to(numeric.device)


def load_trained_model(path: Path) -> TrainedModel:
    """The model of a finished run, or of a checkpoint, in evaluation mode, on the CPU.

    Args:
        path: a run directory, or `checkpoints/step-N` or `model` in one.

    Raises:
        ModelFileError: if there is no model, or a file of it is missing, damaged, or somebody else's.
    """
    saved = check_whole(_folder_of(path))  # before anything in it is read
    model, shape, preprocessing = read_index(saved)
    layers = describe_layers(model, shape)
    is_checkpoint = TRAINING_FILE in saved.manifest.files
    tensors = (checkpoint_layers if is_checkpoint else read_layers)(saved, layers)
    if read_manifest(saved.directory) != saved.manifest:
        raise ModelFileError(f"{saved.directory}: another model took its place while it was read; try again")
    whole = build_model(layers, seed=0)
    whole.load_state_dict(
        {f"{index}.{name}": value for index, layer in tensors.items() for name, value in layer.items()}
    )
    return TrainedModel(whole, preprocessing).eval()


def _folder_of(path: Path) -> Path:
    """Where the weights are: a checkpoint, whole or not, has in itself what a run has in its model."""
    if any(os.path.lexists(path / name) for name in (MANIFEST_FILE, INDEX_FILE)):
        return path
    directory = path / MODEL_FOLDER
    if directory.is_dir():
        return directory
    if steps := saved_steps(path / FOLDER):
        raise ModelFileError(
            f"{path}: no trained model yet; its newest checkpoint is {path / FOLDER / step_folder(steps[-1])}, "
            "which can be used in its place"
        )
    raise ModelFileError(f"{directory}: no trained model here; has the run finished?")
