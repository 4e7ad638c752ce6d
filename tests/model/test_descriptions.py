"""Descriptions and modules are equal, for every block, norm, activation, dropout and change of width."""

import itertools

import pytest
import torch
from covering import pairwise
from measuring import KEY, layer_input, measured_flops, measured_kept_bytes, measured_pass

from pipemlp.config.model import ModelConfig
from pipemlp.config.registry import options_of
from pipemlp.model.build import build_layer
from pipemlp.planning.costs import analytic_costs, run_kept_bytes
from pipemlp.planning.layers import describe_layers, kept_bytes
from pipemlp.planning.shapes import DataShape

ROWS = 5
BLOCKS = ("plain", "residual", "gated", {"name": "gated", "expansion": 1.7})
NORMS = ("none", "layer", "rms")
ACTIVATIONS = ("relu", "gelu", "silu", "tanh", "leaky_relu", "identity")
LOSSES = {
    "mse": "regression",
    "mae": "regression",
    "huber": "regression",
    "cross_entropy": "classification",
    "binary_cross_entropy": "multilabel",
}
SCALARS = 64
"""Bytes of a loss, and of what it keeps of a few numbers."""
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


def assert_pass_equal(layer, recompute, dtype=torch.float32):
    """What the layer alone keeps of a micro-batch, and what waits for its weight gradients."""
    found = measured_pass([layer], ROWS, dtype, recompute)
    size = ROWS * dtype.itemsize
    assert found.kept == run_kept_bytes([layer], ROWS, dtype.itemsize, recompute)
    assert found.pending == size * layer.pending_values_per_row
    if recompute == 0 and layer.kind != "input":
        shared = found.kept + size * layer.output_width - found.with_output
        assert shared == size * layer.output_width * layer.keeps_output
    if recompute == "elementwise" and layer.kind != "input":
        assert found.kept == size * (layer.input_width + layer.product_values_per_row)
    assert found.left == 0, "nothing stays when all is done"


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
            if layer.kind != "output" or dropout == 0.0:  # which no head has
                for recompute in (0, "elementwise"):
                    assert_pass_equal(layer, recompute)


@pytest.mark.parametrize("cardinalities", [(), (5,), (9, 3, 40)])
@pytest.mark.parametrize("num_numeric", [0, 1, 6])
def test_input_layer(cardinalities, num_numeric):
    shape = DataShape(num_numeric, cardinalities, output_width=4, task="regression", num_rows=(9, 0, 0))
    if num_numeric or cardinalities:
        layer = describe_layers(ModelConfig(hidden=()), shape)[0]
        assert_equal(layer)
        if cardinalities:  # else it holds nothing to train, and is never alone
            assert_pass_equal(layer, 0)


@pytest.mark.parametrize("block", BLOCKS[:3])
@pytest.mark.parametrize("norm", NORMS[::2])
def test_bf16_keeps_half_the_values(block, norm):
    model = ModelConfig.model_validate(
        {"hidden": [16, 8], "block": block, "norm": norm, "activation": "gelu", "dropout": 0.1}
    )
    for layer in describe_layers(model, SHAPE):
        assert_equal(layer, torch.bfloat16)
        for recompute in (0, "elementwise"):
            assert_pass_equal(layer, recompute, torch.bfloat16)


RUNS = pairwise(
    {
        "block": ("plain", "residual", "gated"),
        "norm": ("none", "rms"),
        "activation": ("relu", "gelu", "identity"),
        "dropout": (0.0, 0.3),
        "widths": ((16, 16, 16), (16, 12, 12)),
        "cardinalities": ((), (9,), (9, 3)),
        "loss": tuple(LOSSES),
        "recompute": (0, 1, 2, 3, "elementwise"),
        "dtype": (torch.float32, torch.bfloat16),
        "boundaries": ((0, 5), (0, 2, 5), (0, 3, 4, 5)),
    }
)


@pytest.mark.parametrize("case", RUNS, ids=lambda case: "-".join(map(str, case.values())))
def test_costs_of_virtual_stages(case):
    """Whole runs of layers, from the batch to the loss: what neighbours share counts once."""
    shape = DataShape(6, case["cardinalities"], 4, LOSSES[case["loss"]], (9, 0, 0))
    fields = {name: case[name] for name in ("block", "norm", "activation", "dropout")}
    layers = describe_layers(ModelConfig.model_validate({"hidden": list(case["widths"]), **fields}), shape)
    value_bytes, bounds = case["dtype"].itemsize, case["boundaries"]
    costs = analytic_costs(layers, bounds, micro_batch_rows=ROWS, value_bytes=value_bytes, recompute=case["recompute"])
    for index, (start, stop) in enumerate(itertools.pairwise(bounds)):
        loss = options_of("loss", case["loss"]).model_validate(case["loss"]) if stop == len(layers) else None
        found = measured_pass(layers[start:stop], ROWS, case["dtype"], case["recompute"], loss)
        assert found.kept == pytest.approx(costs.kept_bytes[index], abs=SCALARS), index
        assert found.pending == pytest.approx(costs.pending_bytes[index], abs=SCALARS), index
