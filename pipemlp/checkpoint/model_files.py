"""The trained model as files: one safetensors file per layer, an index, the preprocessing, and a manifest of them.

model/
    layer-00003.safetensors    weights of layer 3, float32
    index.json                 the model's configuration, the data's shape, the file of each layer
    preprocessing.json         what was learned of the training rows
    MANIFEST.json              written last: the other files with size and SHA-256, as in a checkpoint
"""

import json
import os
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file

from pipemlp.checkpoint.folder import Checkpoint
from pipemlp.checkpoint.manifest import FileEntry
from pipemlp.checkpoint.sealed_files import make_folder, sealed
from pipemlp.checkpoint.tensor_files import save_tensors
from pipemlp.config.errors import ModelFileError
from pipemlp.config.files import replace_text
from pipemlp.config.model import ModelConfig
from pipemlp.data import Preprocessing
from pipemlp.planning.layers import LayerDescription
from pipemlp.planning.shapes import DataShape, shape_from_json

FORMAT = 1
"""Version of the layout below `model/`; raised when it changes."""
INDEX_FILE = "index.json"
PREPROCESSING_FILE = "preprocessing.json"


def layer_file(index: int) -> str:
    """File name of a layer's tensors."""
    return f"layer-{index:05d}.safetensors"


def save_layers(directory: Path, tensors: Mapping[int, Mapping[str, torch.Tensor]]) -> dict[str, FileEntry]:
    """Write the given layers, in float32, each file replaced in one step; returns what a manifest says of them."""
    make_folder(directory)
    entries = {}
    for index, layer in tensors.items():
        path = directory / layer_file(index)
        temporary = path.with_suffix(".tmp")
        save_tensors(temporary, {name: value.float().cpu().contiguous() for name, value in layer.items()})
        os.replace(temporary, path)
        entries[path.name] = sealed(path)
    return entries


def publish(staging: Path, directory: Path) -> None:
    """Put a model that is whole in the place of the one before; whoever reads meanwhile finds one of them, or none."""
    before = directory.with_name(f".{directory.name}-before")
    shutil.rmtree(before, ignore_errors=True)
    if directory.is_symlink():
        directory.unlink()
    elif directory.exists():
        os.replace(directory, before)
    os.replace(staging, directory)
    shutil.rmtree(before, ignore_errors=True)


def save_index(
    directory: Path,
    layers: tuple[LayerDescription, ...],
    *,
    model: ModelConfig,
    shape: DataShape,
    preprocessing: Preprocessing,
    about: Mapping[str, object],
    file_of: Callable[[int], str] = layer_file,
) -> list[str]:
    """Write what is needed to build the model again: its configuration, the data's shape and preprocessing.

    Returns:
        The names of the files.
    """
    directory.mkdir(parents=True, exist_ok=True)
    _write_json(directory / PREPROCESSING_FILE, preprocessing.to_json())
    index = {
        "format": FORMAT,
        **about,
        "model": model.model_dump(mode="json"),
        "shape": asdict(shape),
        "layers": [
            {
                "index": layer.index,
                "kind": layer.kind,
                "file": file_of(layer.index),
                "parameters": layer.num_parameters,
            }
            for layer in layers
        ],
    }
    _write_json(directory / INDEX_FILE, index)
    return [INDEX_FILE, PREPROCESSING_FILE]


def _write_json(path: Path, value: object) -> None:
    replace_text(path, json.dumps(value, indent=1) + "\n")


def read_index(saved: Checkpoint) -> tuple[ModelConfig, DataShape, Preprocessing]:
    """Read what `save_index` wrote.

    Raises:
        ModelFileError: if it is missing, of a newer format, or names a block that is not registered.
    """
    path = saved.file(INDEX_FILE)
    try:
        index = json.loads(path.read_text(encoding="utf-8"))
        if index["format"] > FORMAT:
            raise ModelFileError(
                f"{path}: format {index['format']}, this version reads up to {FORMAT}; upgrade pipemlp"
            )
        shape = shape_from_json(index["shape"])
        model = ModelConfig.model_validate(index["model"])
        preprocessing = Preprocessing.from_json(json.loads(saved.file(PREPROCESSING_FILE).read_text("utf-8")))
    except (OSError, ValueError, KeyError, TypeError) as error:
        hint = "; give --plugin MODULE, if the model uses a plug-in's block" if "unknown block" in str(error) else ""
        raise ModelFileError(f"{path}: cannot be read: {error}{hint}") from error
    return model, shape, preprocessing


def read_layers(saved: Checkpoint, layers: Sequence[LayerDescription]) -> dict[int, dict[str, torch.Tensor]]:
    """The tensors of the given layers, checked against their descriptions.

    Raises:
        ModelFileError: naming the file that is missing, damaged or of another shape.
    """
    return {layer.index: _read_layer(saved.file(layer_file(layer.index)), layer) for layer in layers}


def _read_layer(path: Path, layer: LayerDescription) -> dict[str, torch.Tensor]:
    try:
        tensors = load_file(path)
    except (OSError, SafetensorError) as error:
        raise ModelFileError(f"{path}: damaged: {error}") from error
    expected = {parameter.name: parameter.shape for parameter in layer.parameters}
    found = {name: tuple(value.shape) for name, value in tensors.items()}
    if expected != found:
        raise ModelFileError(f"{path}: holds {found}, but layer {layer.index} ({layer.kind}) has {expected}")
    return tensors
