"""A trained model as one file for other programs: all weights in safetensors, or the whole computation in ONNX.

Either file is read back and compared before it takes its place.
"""

import json
import os
import warnings
from contextlib import suppress
from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import Tensor

from pipemlp.checkpoint.tensor_files import save_tensors
from pipemlp.checkpoint.trained_model import TrainedModel
from pipemlp.config.errors import ConfigError, ModelFileError

ENDINGS = (".safetensors", ".onnx")
CHECKED_ROWS = 64
TOLERANCE = 1e-4
"""Of outputs, relative to the largest of them: float32 sums of a few thousand terms in another order."""


def export(model: TrainedModel, output: Path) -> None:
    """Write the model; the file appears when it is whole and was found to be the same model.

    Args:
        model: in evaluation mode, on the CPU.
        output: its ending, `.safetensors` or `.onnx`, says which.

    Raises:
        ConfigError: if the ending is another, or what ONNX needs is not installed.
        ModelFileError: if the file gives other outputs than the model.
    """
    if output.suffix not in ENDINGS:
        raise ConfigError(f"--output {output}: unknown ending; use {' or '.join(ENDINGS)}")
    temporary = output.with_name(f".{output.stem}.partial{output.suffix}")
    try:
        temporary.parent.mkdir(parents=True, exist_ok=True)
        (_write_tensors if output.suffix == ".safetensors" else _write_onnx)(model, temporary)
        os.replace(temporary, output)
    except OSError as error:
        raise ConfigError(f"--output {output}: cannot be written: {error.strerror or error}") from error
    finally:
        with suppress(OSError):
            temporary.unlink()


def _write_tensors(model: TrainedModel, path: Path) -> None:
    """Weights by `LAYER.NAME`; how inputs are standardised stands in the file's metadata."""
    own = {name: value.contiguous() for name, value in model.layers.state_dict().items()}
    save_tensors(path, own, {"preprocessing": json.dumps(model.preprocessing.to_json())})
    found = load_file(path)
    if found.keys() != own.keys() or not all(torch.equal(value, found[name]) for name, value in own.items()):
        raise ModelFileError(f"{path}: what was written is not what is read; look at the disk")


def _write_onnx(model: TrainedModel, path: Path) -> None:
    try:
        import onnxruntime
        import onnxscript  # noqa: F401 - torch's exporter needs it, and says so only by a traceback
    except ImportError as error:
        raise ConfigError("--output: .onnx needs more packages: pip install 'pipemlp[onnx]'") from error
    inputs = _inputs(model, CHECKED_ROWS)
    names = ["numeric", "categorical"][: len(inputs)]
    rows = torch.export.Dim("rows", min=1)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the exporter's own, about itself
        program = torch.onnx.export(
            model,
            inputs,
            dynamo=True,
            input_names=names,
            output_names=["outputs"],
            dynamic_shapes={name: {0: rows} for name in names},
            external_data=False,
            verbose=False,
        )
    assert program is not None
    program.save(str(path))
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    for num_rows in (1, CHECKED_ROWS):
        given = _inputs(model, num_rows)
        (found,) = session.run(None, {name: value.numpy() for name, value in zip(names, given, strict=True)})
        with torch.no_grad():
            expected = model(*given)
        off = float((torch.from_numpy(found).double() - expected.double()).abs().max())
        scale = float(expected.abs().max())
        if not off <= TOLERANCE * max(scale, 1.0):
            raise ModelFileError(f"{path}: ONNX outputs differ from the model's by {off:.2g}, of at most {scale:.2g}")


def _inputs(model: TrainedModel, num_rows: int) -> tuple[Tensor, ...]:
    """Rows that look like those of the training, up to three standard deviations, and all codes in turn."""
    learned = model.preprocessing
    steps = torch.linspace(-3.0, 3.0, num_rows, dtype=torch.float64)[:, None]
    numeric = model.input_means + steps * model.input_stds
    if not learned.categorical:
        return (numeric,)
    sizes = [len(vocabulary) + 1 for vocabulary in learned.vocabularies]
    codes = torch.stack([torch.arange(num_rows) % size for size in sizes], dim=1)
    return numeric, codes
