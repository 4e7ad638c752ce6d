"""A profile as a source of costs: kinds of layers, sizes between those measured, what recomputation takes."""

import pytest

from pipemlp.config.model import ModelConfig
from pipemlp.planning.layers import describe_layers
from pipemlp.planning.machine import Curve, Machine, Network
from pipemlp.planning.profile import Measurement, Profile, kinds_of, rows_to_measure
from pipemlp.planning.shapes import DataShape

SHAPE = DataShape(num_numeric=16, cardinalities=(), output_width=4, task="classification", num_rows=(64, 0, 0))
FREE = Network(Curve((0.0,), (0.0,)), Curve((0.0,), (0.0,)))
MACHINE = Machine("x", True, 1e9, FREE, FREE)


def layers_of(hidden, shape=SHAPE):
    return describe_layers(ModelConfig.model_validate({"hidden": hidden}), shape)


def measurement(rows: int, unit: float) -> Measurement:
    return Measurement(rows, 1 * unit, 2 * unit, 3 * unit, 0.5 * unit, 2.5 * unit)


def test_equal_layers_are_of_one_kind():
    kinds, firsts = kinds_of(layers_of([16, 16, 16, 32, 16]))
    # input handling, the first hidden layer without an input gradient, two alike, widths change, change back, the head
    assert kinds == (-1, 0, 1, 1, 2, 3, 4)
    assert firsts == (1, 2, 4, 5, 6)


def test_embeddings_are_a_kind_of_their_own():
    shape = DataShape(num_numeric=3, cardinalities=(9,), output_width=1, task="regression", num_rows=(64, 0, 0))
    kinds, firsts = kinds_of(layers_of([8, 8], shape))
    assert kinds == (0, 1, 2, 3) and firsts == (0, 1, 2, 3)


def test_times_between_two_sizes_and_beyond():
    profile = Profile(MACHINE, ((measurement(8, 1.0), measurement(16, 2.0)),), (-1, 0, 0))
    assert profile.times(12, 0).forward == (0.0, 1.5, 1.5)
    assert profile.times(24, 0).weight_gradient == pytest.approx((0.0, 9.0, 9.0))
    assert profile.times(4, 0).input_gradient == (0.0, 2.0, 2.0)  # no faster than the smallest that was measured


@pytest.mark.parametrize(("recompute", "expected"), [(0, (1, 2, 3)), ("elementwise", (0.5, 2.5, 3)), (4, (0.5, 3, 3))])
def test_recompute(recompute, expected):
    times = Profile(MACHINE, ((measurement(8, 1.0),),), (0,)).times(8, recompute)
    assert (times.forward[0], times.input_gradient[0], times.weight_gradient[0]) == expected


@pytest.mark.parametrize(
    ("batch", "wanted", "sizes"),
    [
        (64, 16, (1, 2, 4, 8, 16, 32, 64)),
        (48, 8, (3, 6, 8, 12, 24, 48)),
        (45, 15, (1, 3, 5, 9, 15, 45)),
        (16384, 512, (2, 4, 16, 64, 256, 512, 1024, 4096, 16384)),
        (1, 1, (1,)),
        (7, 7, (1, 7)),
    ],
)
def test_rows(batch, wanted, sizes):
    found = rows_to_measure(batch, wanted)
    assert wanted in found and batch in found and found == tuple(sorted(found))
    assert all(batch % size == 0 for size in found)
    assert len(found) <= 8
    if batch != 16384:
        assert found == sizes
