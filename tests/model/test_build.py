"""Initialisation depends on the seed and the layer's index only, and each rule has the spread it promises."""

import dataclasses
import math

import pytest
import torch
from torch import nn

from pipemlp.config.model import ModelConfig
from pipemlp.model import blocks
from pipemlp.model.build import build_layer
from pipemlp.model.whole import build_model
from pipemlp.planning.layers import LayerDescription, describe_layers
from pipemlp.planning.shapes import DataShape

SHAPE = DataShape(num_numeric=6, cardinalities=(9, 3), output_width=4, task="regression", num_rows=(9, 0, 0))


def layers_of(**model):
    model = {"hidden": [32, 32, 8], "block": "gated", "norm": "layer", "activation": "gelu"} | model
    return describe_layers(ModelConfig.model_validate(model), SHAPE)


def values(module):
    return torch.cat([parameter.detach().flatten() for parameter in module.parameters()])


def test_order_and_company_do_not_matter():
    layers = layers_of()
    whole = build_model(layers, seed=5)
    for layer in reversed(layers):
        assert torch.equal(values(build_layer(layer, seed=5)), values(whole[layer.index]))


def test_seed_and_index_matter():
    layers = layers_of(hidden=[32, 32, 32])
    same = [build_layer(layers[2], seed=5), build_layer(layers[2], seed=5)]
    other = [build_layer(layers[2], seed=6), build_layer(layers[3], seed=5)]
    assert torch.equal(values(same[0]), values(same[1]))
    assert not any(torch.equal(values(same[0]), values(module)) for module in other)


def test_the_global_generator_is_neither_used_nor_moved():
    layers = layers_of()
    torch.manual_seed(1)
    state = torch.get_rng_state()
    first = values(build_model(layers, seed=5))
    assert torch.equal(torch.get_rng_state(), state)
    torch.manual_seed(2)
    assert torch.equal(values(build_model(layers, seed=5)), first)


def test_every_type_starts_from_the_same_numbers():
    layer = layers_of()[2]
    reference = values(build_layer(layer, seed=5))
    for dtype in (torch.float64, torch.bfloat16):
        module = build_layer(layer, seed=5, dtype=dtype)
        assert {parameter.dtype for parameter in module.parameters()} == {dtype}
        assert torch.equal(values(module), reference.to(dtype))


def test_biases_are_zero_norms_one_embeddings_standard_normal():
    layers = layers_of()
    block = build_layer(layers[1], seed=5)
    for linear in (block.gate, block.up, block.down):
        assert not linear.bias.any()
    assert (block.norm.weight == 1).all()
    assert not block.norm.bias.any()
    wide = describe_layers(ModelConfig(hidden=()), DataShape(0, (2000,), 1, "regression", (9, 0, 0)))[0]
    embeddings = values(build_layer(wide, seed=5))
    assert abs(embeddings.mean()) < 0.02
    assert abs(embeddings.std() - 1) < 0.02


@pytest.mark.parametrize("activation", ["relu", "gelu", "silu", "tanh", "leaky_relu", "identity"])
@pytest.mark.parametrize(
    "init", ["kaiming_normal", "kaiming_uniform", "xavier_normal", "xavier_uniform", "lecun_normal"]
)
def test_the_spread_of_each_rule(init, activation):
    fan_in, fan_out = 300, 500
    layer = layers_of(hidden=[fan_in, fan_out], block="plain", init=init, activation=activation, norm="none")[2]
    weight = build_layer(layer, seed=5).linear.weight
    nonlinearity = {"gelu": "relu", "silu": "relu", "identity": "linear"}.get(activation, activation)
    gain = nn.init.calculate_gain(nonlinearity, 0.01)
    expected = {
        "kaiming": gain / math.sqrt(fan_in),
        "xavier": math.sqrt(2 / (fan_in + fan_out)),
        "lecun": 1 / math.sqrt(fan_in),
    }[init.split("_")[0]]
    assert weight.std().item() == pytest.approx(expected, rel=0.01)
    assert abs(weight.mean()) < expected * 0.02
    if init.endswith("uniform"):
        assert weight.abs().max().item() == pytest.approx(expected * math.sqrt(3), rel=0.01)


def test_orthogonal():
    weight = build_layer(layers_of(hidden=[32, 32], block="plain", init="orthogonal")[2], seed=5).linear.weight
    torch.testing.assert_close(weight @ weight.T, torch.eye(32))


def test_only_what_passes_the_activation_takes_its_gain():
    block = build_layer(layers_of(hidden=[400, 300], init="kaiming_normal")[2], seed=5)
    assert block.gate.weight.std().item() == pytest.approx(math.sqrt(2 / 400), rel=0.02)
    assert block.up.weight.std().item() == pytest.approx(math.sqrt(1 / 400), rel=0.02)
    assert block.skip.weight.std().item() == pytest.approx(math.sqrt(1 / 400), rel=0.02)


def test_input_layer_casts_to_its_type_without_a_parameter_to_go_by():
    layer = describe_layers(ModelConfig(hidden=()), DataShape(2, (), 1, "regression", (9, 0, 0)))[0]
    module = build_layer(layer, seed=5, dtype=torch.bfloat16)
    x = (torch.ones(3, 2, dtype=torch.float64), torch.empty(3, 0, dtype=torch.int64))
    assert module(x).dtype == torch.bfloat16
    assert module.to(torch.float64)(x).dtype == torch.float64
    assert not module.state_dict()


@pytest.fixture
def module_table(monkeypatch):
    table = dict(blocks._modules)
    monkeypatch.setattr(blocks, "_modules", table)
    return table


class Offset(nn.Module):
    """A plug-in with a buffer, drawn from the global generator as careless code would."""

    def __init__(self, layer: LayerDescription) -> None:
        super().__init__()
        self.linear = nn.Linear(layer.input_width, layer.output_width)
        self.register_buffer("offset", torch.arange(3.0) + torch.rand(1) * 0)
        self.register_buffer("count", torch.tensor(7))

    def forward(self, x, dropout_key=None):
        return self.linear(x) + self.offset.sum()


def test_buffers_of_plug_ins_hold_what_their_constructor_computes(module_table):
    module_table["offset"] = Offset
    layer = dataclasses.replace(layers_of(hidden=[8], block="plain", norm="none")[1], kind="offset")
    state = torch.get_rng_state()
    module = build_layer(layer, seed=5, dtype=torch.float64)
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.equal(module.offset, torch.arange(3.0, dtype=torch.float64))
    assert module.count.item() == 7
    assert module.count.dtype == torch.int64


def test_a_wrong_description_is_refused(module_table):
    module_table["offset"] = Offset
    layer = dataclasses.replace(layers_of(hidden=[8], block="plain", norm="layer")[1], kind="offset")
    with pytest.raises(ValueError, match=r"layer 1 \(offset\): the description has .*norm.weight.*, the module"):
        build_layer(layer, seed=5)


class Frozen(Offset):
    """A parameter that should have been a buffer."""

    def __init__(self, layer):
        super().__init__(layer)
        self.linear.bias.requires_grad_(False)


def test_a_parameter_that_does_not_train_is_refused(module_table):
    module_table["frozen"] = Frozen
    layer = dataclasses.replace(layers_of(hidden=[8], block="plain", norm="none")[1], kind="frozen")
    with pytest.raises(ValueError, match=r"layer 1 \(frozen\): the parameter linear.bias does not train; make it a"):
        build_layer(layer, seed=5)
