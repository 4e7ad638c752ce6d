"""The expansion of a configuration into layer descriptions, by hand-checked numbers; no torch."""

import subprocess
import sys

import pytest

from pipemlp.config.errors import ConfigError
from pipemlp.config.model import ModelConfig
from pipemlp.planning.block_costs import block_cost, gated_inner_width, register_block_description
from pipemlp.planning.block_parts import BlockCost
from pipemlp.planning.layers import Parameter, describe_layers, embedding_width, input_width, kept_bytes
from pipemlp.planning.shapes import DataShape

TABLE = DataShape(num_numeric=10, cardinalities=(12, 4), output_width=3, task="classification", num_rows=(90, 5, 5))


def layers_of(shape=TABLE, **model):
    return describe_layers(ModelConfig.model_validate(model), shape)


def test_embedding_widths_follow_the_rule_of_thumb():
    assert [embedding_width(n) for n in (1, 2, 4, 12, 100, 10**6)] == [2, 3, 4, 7, 22, 50]
    assert input_width(TABLE) == 10 + 7 + 4


def test_input_layer():
    first = layers_of(hidden=[])[0]
    assert (first.index, first.kind, first.input_width, first.output_width) == (0, "input", 10, 21)
    assert first.parameters == (
        Parameter("embeddings.0.weight", (12, 7)),
        Parameter("embeddings.1.weight", (4, 4)),
    )
    assert first.options == (("cardinalities", (12, 4)), ("embedding_widths", (7, 4)))
    assert first.num_parameters == 12 * 7 + 4 * 4
    assert (first.forward_flops_per_row, first.kept_values_per_row, first.kept_bytes_per_row) == (0, 0, 16)


@pytest.mark.parametrize(
    ("hidden", "widths"),
    [
        ({"width": 8, "depth": 3}, [8, 8, 8]),
        ([5, 6], [5, 6]),
        ([{"width": 8, "repeat": 2}, 4, {"width": 3}], [8, 8, 4, 3]),
        ([], []),
    ],
)
def test_every_form_of_hidden(hidden, widths):
    layers = layers_of(hidden=hidden)
    assert [layer.output_width for layer in layers] == [21, *widths, 3]
    assert [layer.input_width for layer in layers] == [10, 21, *widths]
    assert [layer.index for layer in layers] == list(range(len(widths) + 2))
    assert [layer.kind for layer in layers] == ["input", *["plain"] * len(widths), "output"]


def test_a_depth_of_16_makes_18_layers():
    assert len(layers_of(hidden={"width": 128, "depth": 16})) == 18


def test_a_group_overrides_the_model_and_zero_is_a_value():
    group = {"width": 8, "block": "gated", "activation": "silu", "norm": "rms", "dropout": 0.0}
    layers = layers_of(hidden=[4, group], block="residual", activation="tanh", norm="layer", dropout=0.2)
    settings = [(layer.kind, layer.activation, layer.norm, layer.dropout) for layer in layers]
    assert settings == [
        ("input", "identity", "none", 0.0),
        ("residual", "tanh", "layer", 0.2),
        ("gated", "silu", "rms", 0.0),
        ("output", "identity", "layer", 0.0),
    ]
    assert layers[2].options == (("expansion", 1.0),)


@pytest.mark.parametrize(
    ("block", "norm", "head_norm"),
    [("plain", "layer", "none"), ("residual", "layer", "layer"), ("gated", "rms", "rms"), ("residual", "none", "none")],
)
def test_the_head_normalises_after_a_skip(block, norm, head_norm):
    assert layers_of(hidden=[4], block=block, norm=norm)[-1].norm == head_norm
    assert layers_of(hidden=[], block=block, norm=norm)[-1].norm == "none"


def test_a_residual_layer_by_hand():
    layer = layers_of(hidden=[64], block="residual", activation="gelu", norm="layer", dropout=0.1)[1]
    assert [(p.name, p.shape) for p in layer.parameters] == [
        ("norm.weight", (21,)),
        ("norm.bias", (21,)),
        ("linear.weight", (64, 21)),
        ("linear.bias", (64,)),
        ("skip.weight", (64, 21)),
    ]
    assert layer.forward_flops_per_row == 2 * 2 * 21 * 64
    assert layer.kept_values_per_row == 21 + 21 + 64  # x, norm(x), and the input of gelu
    assert layer.kept_bytes_per_row == 8 + 64  # mean and deviation, and the mask
    assert kept_bytes(layer, rows=16, value_bytes=2) == 16 * (2 * 106 + 72)
    assert layer.product_values_per_row == 64 + 64  # of the linear layer, and of the skip
    assert layer.pending_values_per_row == 21 + 21 + 64 + 64  # x, norm(x), and the gradients of both products
    assert layer.input_is_pending and not layer.keeps_output


def test_a_plain_relu_layer_keeps_its_result():
    kept, behind_dropout, normed = (
        layers_of(hidden=[64], activation="relu", norm=norm, dropout=dropout)[1]
        for norm, dropout in (("none", 0.0), ("none", 0.1), ("layer", 0.0))
    )
    assert (kept.keeps_output, behind_dropout.keeps_output, normed.keeps_output) == (True, False, True)
    assert [layer.kept_values_per_row for layer in (kept, behind_dropout, normed)] == [21, 21 + 64, 21 + 64]
    assert {layer.product_values_per_row for layer in (kept, behind_dropout, normed)} == {64}
    assert {layer.pending_values_per_row for layer in (kept, behind_dropout, normed)} == {21 + 64}


def test_gated_inner_width_is_rounded_and_at_least_one():
    assert [gated_inner_width(e, 10) for e in (0.01, 0.26, 1.0, 2.667)] == [1, 3, 10, 27]


def test_a_number_that_the_data_contradicts_is_refused():
    with pytest.raises(ConfigError) as caught:
        layers_of(hidden=[4], input_width=20, output_width=2)
    assert caught.value.messages == (
        "model.input_width: 20, but the data has 21 values per row (10 numeric + 11 embedded); use 21 or auto",
        "model.output_width: 2, but the data asks for 3 (classification); use 3 or auto",
    )
    assert layers_of(hidden=[4], input_width=21, output_width=3) == layers_of(hidden=[4])


def test_a_description_is_registered_once():
    def describe(block):
        return BlockCost((), 0, 0, 0)

    with pytest.raises(ValueError, match="'plain' already has a description"):
        register_block_description("plain", describe)
    assert block_cost is not describe


def test_descriptions_are_values():
    assert hash(layers_of(hidden=[4], block="gated")) == hash(layers_of(hidden=[4], block="gated"))


def test_no_torch_is_imported():
    code = (
        "import sys; sys.modules['torch'] = None; import pipemlp.planning.layers; "
        "assert not any(name.startswith('torch.') for name in sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
