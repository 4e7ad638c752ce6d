"""An exported file gives what the model gives, in programs that know nothing of PipeMLP."""

import json
from collections import OrderedDict

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file
from torch import nn

from pipemlp.checkpoint.export import export
from pipemlp.checkpoint.trained_model import TrainedModel
from pipemlp.config.errors import ConfigError, ModelFileError
from pipemlp.config.model import ModelConfig
from pipemlp.data import Preprocessing
from pipemlp.model.whole import build_model
from pipemlp.planning.layers import describe_layers
from pipemlp.planning.shapes import DataShape


def model_of(hidden, categories=(), **settings) -> TrainedModel:
    shape = DataShape(4, tuple(len(own) + 1 for own in categories), 1, "regression", (10, 0, 0))
    layers = describe_layers(ModelConfig.model_validate({"hidden": hidden, **settings}), shape)
    learned = Preprocessing(
        task="regression",
        numeric=("a", "b", "c", "d"),
        means=(1.0, 2.0, 3.0, 1e3),
        stds=(1.0, 0.5, 2.0, 100.0),
        categorical=tuple(f"k{index}" for index in range(len(categories))),
        vocabularies=tuple(categories),
        targets=("y",),
        target_means=(250.0,),
        target_stds=(40.0,),
        class_labels=(),
        missing="error",
        unseen="error",
        is_autoencoder=False,
    )
    return TrainedModel(build_model(layers, seed=3), learned).eval()


MODELS = {
    "plain": ([8, 8], (), {"block": "plain", "activation": "relu"}),
    "residual with categories": ([8, 8], (("x", "y"), ("1", "2", "3")), {"block": "residual", "norm": "layer"}),
    "gated": ([8, 16], (), {"block": "gated", "activation": "silu", "norm": "rms"}),
}


@pytest.mark.parametrize("name", MODELS)
def test_onnx_gives_the_same_outputs(name, tmp_path):
    import onnxruntime

    hidden, categories, settings = MODELS[name]
    model = model_of(hidden, categories, **settings)
    export(model, tmp_path / "model.onnx")
    assert [path.name for path in tmp_path.iterdir()] == ["model.onnx"]
    session = onnxruntime.InferenceSession(str(tmp_path / "model.onnx"))
    numeric = torch.randn(7, 4, dtype=torch.float64) * model.input_stds + model.input_means
    given = [numeric] if not categories else [numeric, torch.tensor([[1, 3]] * 7)]
    names = [each.name for each in session.get_inputs()]
    (found,) = session.run(None, {key: value.numpy() for key, value in zip(names, given, strict=True)})
    with torch.no_grad():
        torch.testing.assert_close(torch.from_numpy(found), model(*given), rtol=1e-5, atol=1e-4, check_dtype=False)


def test_safetensors_in_plain_pytorch(tmp_path):
    """As docs/reliability.md shows it."""
    model = model_of([8, 6], block="plain", activation="relu")
    export(model, tmp_path / "model.safetensors")

    def block(inputs: int, outputs: int) -> nn.Module:
        return nn.Sequential(OrderedDict(linear=nn.Linear(inputs, outputs), activation=nn.ReLU()))

    plain = nn.Sequential(nn.Identity(), block(4, 8), block(8, 6), nn.Sequential(OrderedDict(linear=nn.Linear(6, 1))))
    plain.load_state_dict(load_file(tmp_path / "model.safetensors"))
    x = torch.randn(5, 4)
    torch.testing.assert_close(plain(x), model.layers(x))
    with safe_open(tmp_path / "model.safetensors", "pt") as file:
        assert json.loads(file.metadata()["preprocessing"])["means"] == [1.0, 2.0, 3.0, 1e3]


def test_another_ending_is_refused(tmp_path):
    with pytest.raises(ConfigError, match=r"unknown ending; use .safetensors or .onnx"):
        export(model_of([4]), tmp_path / "model.pt")


def test_a_file_that_differs_is_not_left(tmp_path, monkeypatch):
    monkeypatch.setattr("pipemlp.checkpoint.export.load_file", lambda path: {})
    with pytest.raises(ModelFileError, match="what was written is not what is read"):
        export(model_of([4]), tmp_path / "model.safetensors")
    assert not list(tmp_path.iterdir())


def test_a_folder_that_cannot_be_written(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(ConfigError, match="cannot be written"):
        export(model_of([4]), tmp_path / "file" / "model.safetensors")
