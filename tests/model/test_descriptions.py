"""Descriptions and modules are equal, for every block, norm, activation, dropout and change of width."""

import itertools

import pytest
import torch
from measuring import layer_input, measured_flops, measured_kept_bytes

from pipemlp.config.model import ModelConfig
from pipemlp.model.build import build_layer
from pipemlp.model.dropout import DropoutKey
from pipemlp.planning.layers import describe_layers, kept_bytes
from pipemlp.planning.shapes import DataShape

ROWS = 5
KEY = DropoutKey(seed=1, step=2, first_row=3)
BLOCKS = ("plain", "residual", "gated", {"name": "gated", "expansion": 1.7})
NORMS = ("none", "layer", "rms")
ACTIVATIONS = ("relu", "gelu", "silu", "tanh", "leaky_relu", "identity")
SHAPE = DataShape(num_numeric=6, cardinalities=(9, 3), output_width=4, task="regression", num_rows=(9, 0, 0))


def assert_equal(layer, dtype=torch.float32):
    module = build_layer(layer, seed=0, dtype=dtype)
    built = [(name, tuple(p.shape)) for name, p in module.named_parameters()]
    assert built == [(p.name, p.shape) for p in layer.parameters]
    assert sum(p.numel() for p in module.parameters()) == layer.num_parameters
    x = layer_input(layer, ROWS, dtype)
    assert module(x, KEY).shape == (ROWS, layer.output_width)
    assert measured_flops(lambda: module(x, KEY)) == ROWS * layer.forward_flops_per_row
    assert measured_kept_bytes(module, lambda: module(x, KEY)) == kept_bytes(layer, ROWS, dtype.itemsize)


@pytest.mark.parametrize("block", BLOCKS, ids=str)
@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_hidden_blocks(block, norm, activation):
    for dropout, width in itertools.product((0.0, 0.3), (7, 16)):
        model = ModelConfig.model_validate(
            {"hidden": [16, width], "block": block, "norm": norm, "activation": activation, "dropout": dropout}
        )
        for layer in describe_layers(model, SHAPE)[2:]:
            assert_equal(layer)


@pytest.mark.parametrize("cardinalities", [(), (5,), (9, 3, 40)])
@pytest.mark.parametrize("num_numeric", [0, 1, 6])
def test_input_layer(cardinalities, num_numeric):
    shape = DataShape(num_numeric, cardinalities, output_width=4, task="regression", num_rows=(9, 0, 0))
    if num_numeric or cardinalities:
        assert_equal(describe_layers(ModelConfig(hidden=()), shape)[0])


@pytest.mark.parametrize("block", BLOCKS[:3])
@pytest.mark.parametrize("norm", NORMS[::2])
def test_bf16_keeps_half_the_values(block, norm):
    model = ModelConfig.model_validate(
        {"hidden": [16, 8], "block": block, "norm": norm, "activation": "gelu", "dropout": 0.1}
    )
    for layer in describe_layers(model, SHAPE):
        assert_equal(layer, torch.bfloat16)
