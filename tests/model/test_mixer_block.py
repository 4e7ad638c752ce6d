"""The worked example of docs/extending.md: a user's block, from the config to a trained layer."""

import importlib

import pytest
import torch
from measuring import layer_input, measured_flops, measured_kept_bytes

from pipemlp.config.errors import ConfigError
from pipemlp.config.model import ModelConfig
from pipemlp.model.blocks import register_block
from pipemlp.model.build import build_layer
from pipemlp.model.dropout import DropoutKey
from pipemlp.model.whole import build_model
from pipemlp.planning.layers import describe_layers, kept_bytes
from pipemlp.planning.shapes import DataShape

mixer_plugin = importlib.import_module("mixer_plugin")  # what `--plugin mixer_plugin` does
KEY = DropoutKey(seed=1, step=2, first_row=3)
SHAPE = DataShape(num_numeric=24, cardinalities=(), output_width=2, task="regression", num_rows=(64, 0, 0))


def layers_of(width=24, tokens=4, **model):
    block = {"name": "mixer", "tokens": tokens}
    return describe_layers(
        ModelConfig.model_validate({"hidden": {"width": width, "depth": 2}, "block": block, "norm": "layer"} | model),
        SHAPE,
    )


@pytest.mark.parametrize("activation", ["identity", "relu", "gelu"])
@pytest.mark.parametrize("dropout", [0.0, 0.2])
def test_the_description_is_true(activation, dropout):
    layer = layers_of(activation=activation, dropout=dropout)[2]
    assert (layer.kind, layer.options) == ("mixer", (("tokens", 4),))
    module = build_layer(layer, seed=0)
    x = layer_input(layer, 5)
    assert measured_flops(lambda: module(x, KEY)) == 5 * layer.forward_flops_per_row
    assert measured_kept_bytes(module, lambda: module(x, KEY)) == kept_bytes(layer, 5, 4)


def test_it_has_a_skip_so_that_the_head_normalises():
    assert layers_of()[-1].norm == "layer"


def test_rows_do_not_mix():
    layer = layers_of()[1]
    module = build_layer(layer, seed=0, dtype=torch.float64)
    x = layer_input(layer, 5, torch.float64).detach()
    torch.testing.assert_close(torch.cat([module(x[:2]), module(x[2:])]), module(x), rtol=1e-13, atol=1e-13)


def test_gradients():
    module = build_layer(layers_of(activation="gelu", dropout=0.2)[1], seed=0, dtype=torch.float64)
    x = torch.randn(2, 24, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda x: module(x, KEY), (x,))


def test_it_learns():
    model = build_model(layers_of(activation="gelu"), seed=0)
    x = torch.randn(64, 24, generator=torch.Generator().manual_seed(0))
    target = torch.stack([x[:, :6].sum(1), x[:, 6:].abs().mean(1)], 1)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
    losses = []
    for _ in range(60):
        loss = (model(x) - target).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.1 * losses[0]


@pytest.mark.parametrize("change", [{"tokens": 5}, {"width": 32}])
def test_what_does_not_go_together_is_refused(change):
    with pytest.raises(ConfigError, match="keeps the width and divides it"):
        layers_of(**change)


@pytest.mark.parametrize("name", ["mixer", "plain", "output"])
def test_a_name_is_taken_once(name):
    with pytest.raises(ValueError, match="already taken"):
        register_block(name, describe=mixer_plugin.describe_mixer)
