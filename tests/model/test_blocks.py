"""The modules compute what their first sentence says, with right gradients, in float64, float32 and bf16."""

import pytest
import torch
from measuring import layer_input
from torch.nn import functional

from pipemlp.config.model import ModelConfig
from pipemlp.model.activations import ACTIVATIONS, GAINS, LEAKY_SLOPE
from pipemlp.model.build import build_layer
from pipemlp.model.dropout import DropoutKey, dropout
from pipemlp.model.norms import NORM_EPS, build_norm
from pipemlp.model.whole import build_model
from pipemlp.planning.block_parts import KEPT_BY_ACTIVATION
from pipemlp.planning.layers import describe_layers
from pipemlp.planning.shapes import DataShape

KEY = DropoutKey(seed=1, step=2, first_row=3)
SHAPE = DataShape(num_numeric=3, cardinalities=(5,), output_width=2, task="regression", num_rows=(9, 0, 0))
F64 = torch.float64


def layers_of(block, hidden=(4, 5), norm="layer", activation="gelu", dropout=0.25):
    fields = {"hidden": list(hidden), "block": block, "norm": norm, "activation": activation, "dropout": dropout}
    return describe_layers(ModelConfig.model_validate(fields), SHAPE)


@pytest.mark.parametrize("block", ["plain", "residual", "gated"])
@pytest.mark.parametrize("hidden", [(4, 4), (4, 5)])
def test_blocks_compute_their_formula(block, hidden):
    layer = layers_of(block, hidden)[2]
    m = build_layer(layer, seed=1, dtype=F64)
    for parameter in m.parameters():
        torch.nn.init.normal_(parameter)
    x = layer_input(layer, 6, F64)

    def drop(y):
        return dropout(y, 0.25, KEY, layer.index)

    skip = functional.linear(x, m.skip.weight) if block != "plain" and hidden[0] != hidden[1] else x
    expected = {
        "plain": lambda: drop(functional.gelu(m.norm(m.linear(x)))),
        "residual": lambda: skip + drop(functional.gelu(m.linear(m.norm(x)))),
        "gated": lambda: skip + drop(m.down(functional.gelu(m.gate(m.norm(x))) * m.up(m.norm(x)))),
    }[block]()
    assert torch.equal(m(x, KEY), expected)


@pytest.mark.parametrize("block", ["plain", "residual", "gated"])
@pytest.mark.parametrize("norm", ["none", "layer", "rms"])
def test_gradients(block, norm):
    layer = layers_of(block, norm=norm)[2]
    module = build_layer(layer, seed=1, dtype=F64)
    names, parameters = zip(*module.named_parameters(), strict=True)

    def run(x, *values):
        return torch.func.functional_call(module, dict(zip(names, values, strict=True)), (x, KEY))

    assert torch.autograd.gradcheck(run, (layer_input(layer, 3, F64), *parameters))


@pytest.mark.parametrize("dtype", [F64, torch.float32, torch.bfloat16])
@pytest.mark.parametrize("shape", [(6, 16), (2, 3, 16)])
def test_rms_norm_equals_torchs(dtype, shape):
    norm = build_norm("rms", 16).to(dtype)
    torch.nn.init.normal_(norm.weight)
    x = torch.randn(shape, dtype=dtype, requires_grad=True)
    ours, theirs = norm(x), functional.rms_norm(x, (16,), norm.weight, NORM_EPS)
    torch.testing.assert_close(ours, theirs)
    towards = torch.randn_like(ours)
    for ours_grad, theirs_grad in zip(
        torch.autograd.grad(ours, (x, norm.weight), towards),
        torch.autograd.grad(theirs, (x, norm.weight), towards),
        strict=True,
    ):
        torch.testing.assert_close(ours_grad, theirs_grad)


@pytest.mark.parametrize("block", ["plain", "residual", "gated"])
@pytest.mark.parametrize("norm", ["none", "layer", "rms"])
def test_the_whole_model_in_bf16_is_near_float32(block, norm):
    layers = layers_of(block, norm=norm)
    numeric, categorical = layer_input(layers[0], 8)
    results = {}
    for dtype in (torch.float32, torch.bfloat16):
        model = build_model(layers, seed=1, dtype=dtype)
        results[dtype] = model(numeric, categorical, KEY)
        results[dtype].square().mean().backward()
        assert all(parameter.grad.isfinite().all() for parameter in model.parameters())
    assert results[torch.bfloat16].dtype == torch.bfloat16
    scale = results[torch.float32].abs().max().item()
    torch.testing.assert_close(results[torch.bfloat16].float(), results[torch.float32], rtol=0, atol=0.05 * scale)


def test_the_whole_model():
    layers = layers_of("residual")
    model = build_model(layers, seed=1)
    numeric, categorical = layer_input(layers[0], 8)
    assert [name for name, _ in model.named_parameters()] == [
        f"{x.index}.{p.name}" for x in layers for p in x.parameters
    ]
    assert torch.equal(model(numeric, categorical), model.eval()(numeric, categorical, KEY))
    assert not torch.equal(model(numeric, categorical), model.train()(numeric, categorical, KEY))


def test_the_whole_model_without_categorical_columns():
    shape = DataShape(num_numeric=3, cardinalities=(), output_width=2, task="regression", num_rows=(9, 0, 0))
    for hidden in ((), (4,)):
        model = build_model(describe_layers(ModelConfig(hidden=hidden), shape), seed=1)
        assert model(torch.ones(5, 3)).shape == (5, 2)
        assert model(torch.ones(0, 3)).shape == (0, 2)


def test_activations_are_the_ones_described():
    assert ACTIVATIONS.keys() == GAINS.keys() == KEPT_BY_ACTIVATION.keys()
    x = torch.tensor([-2.0])
    assert ACTIVATIONS["leaky_relu"](x).item() == pytest.approx(-2 * LEAKY_SLOPE)
    assert ACTIVATIONS["identity"](x) is x
