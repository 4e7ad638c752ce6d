"""Where the layers are cut: the best cut, explicit cuts, and what is refused."""

import random
from itertools import combinations, pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipemlp.config.model import ModelConfig
from pipemlp.planning.layers import describe_layers
from pipemlp.planning.partition import boundaries_for, minimax_boundaries, uniform_boundaries
from pipemlp.planning.shapes import DataShape

NUMBERS = DataShape(num_numeric=4, cardinalities=(), output_width=2, task="regression", num_rows=(9, 0, 0))
LAYERS = describe_layers(ModelConfig.model_validate({"hidden": [8, 8, 8, 8]}), NUMBERS)
"""Six layers; the input layer has no parameters, as there is no categorical column."""


def loads(weights, boundaries):
    return [sum(weights[start:stop]) for start, stop in pairwise(boundaries)]


def best_bottleneck(weights, num_stages):
    """By trying every cut that leaves each stage a weight above zero."""
    cuts = ((0, *inner, len(weights)) for inner in combinations(range(1, len(weights)), num_stages - 1))
    return min(max(loads(weights, cut)) for cut in cuts if all(load > 0 for load in loads(weights, cut)))


def test_minimax_is_as_good_as_trying_every_cut():
    numbers = random.Random(0)
    num_cases = 0
    while num_cases < 4000:
        weights = [numbers.choice((0, 1, 2, 3, 7, numbers.randrange(100))) for _ in range(numbers.randint(1, 9))]
        num_heavy = sum(weight > 0 for weight in weights)
        if num_heavy == 0:
            continue
        num_stages = numbers.randint(1, num_heavy)
        boundaries = minimax_boundaries(weights, num_stages)
        assert boundaries[0] == 0 and boundaries[-1] == len(weights) and len(boundaries) == num_stages + 1
        assert all(start < stop for start, stop in pairwise(boundaries))
        assert all(load > 0 for load in loads(weights, boundaries)), (weights, boundaries)
        assert max(loads(weights, boundaries)) == best_bottleneck(weights, num_stages), (weights, boundaries)
        num_cases += 1


def test_ties_leave_room_at_the_last_stage():
    assert minimax_boundaries([1, 1, 1, 1, 1], 2) == (0, 2, 5)
    assert minimax_boundaries([5, 1, 1], 2) == (0, 1, 3)


@pytest.mark.parametrize(("weights", "num_stages", "num_heavy"), [([1, 0, 2], 3, 2), ([0, 0], 1, 0), ([1], 0, 1)])
def test_minimax_refuses_what_cannot_be_cut(weights, num_stages, num_heavy):
    with pytest.raises(ValueError) as caught:
        minimax_boundaries(weights, num_stages)
    assert str(caught.value) == f"{num_stages} stages for {num_heavy} layers with parameters"


def test_ten_thousand_layers_over_512_stages():
    numbers = random.Random(1)
    weights = [numbers.randrange(1, 10**9) for _ in range(10_000)]
    boundaries = minimax_boundaries(weights, 512)
    assert len(boundaries) == 513 and all(start < stop for start, stop in pairwise(boundaries))
    assert max(loads(weights, boundaries)) < sum(weights) / 512 + max(weights)


@given(st.integers(1, 300).flatmap(lambda n: st.tuples(st.just(n), st.integers(1, n))))
def test_uniform_sizes_differ_by_one_at_most_and_never_grow(layers_and_stages):
    num_layers, num_stages = layers_and_stages
    boundaries = uniform_boundaries(num_layers, num_stages)
    sizes = [stop - start for start, stop in pairwise(boundaries)]
    assert len(sizes) == num_stages and sum(sizes) == num_layers and boundaries[0] == 0
    assert sizes == sorted(sizes, reverse=True) and sizes[0] - sizes[-1] <= 1 and sizes[-1] >= 1


def test_by_name_or_as_given():
    assert boundaries_for("uniform", LAYERS, 4) == (0, 2, 4, 5, 6)
    assert boundaries_for("parameters", LAYERS, 2) == minimax_boundaries([x.num_parameters for x in LAYERS], 2)
    assert boundaries_for((0, 2, 6), LAYERS, 2) == (0, 2, 6)
    assert boundaries_for("parameters", LAYERS, 5) == (0, 2, 3, 4, 5, 6)


@pytest.mark.parametrize(
    ("boundaries", "num_stages", "message"),
    [
        ((0, 6), 2, "[0, 6] has 2 boundaries, but 2 stages need 2 + 1 = 3"),
        ((0, 2, 4, 6), 2, "[0, 2, 4, 6] has 4 boundaries, but 2 stages need 2 + 1 = 3"),
        (
            (1, 3, 6),
            2,
            "[1, 3, 6] must start with 0 and end with 6, the number of layers "
            "(input handling and the output head included)",
        ),
        (
            (0, 3, 5),
            2,
            "[0, 3, 5] must start with 0 and end with 6, the number of layers "
            "(input handling and the output head included)",
        ),
        ((0, 4, 3, 6), 3, "[0, 4, 3, 6] must increase, but 3 follows 4"),
        ((0, 3, 3, 6), 3, "[0, 3, 3, 6] must increase, but 3 follows 3"),
        (
            (0, 1, 6),
            2,
            "[0, 1, 6] leaves stage 0 with layers 0..0 only, which have no parameters to train; "
            "give it at least one more layer",
        ),
    ],
)
def test_explicit_boundaries_are_refused_with_the_rule(boundaries, num_stages, message):
    with pytest.raises(ValueError) as caught:
        boundaries_for(boundaries, LAYERS, num_stages)
    assert str(caught.value) == message


def test_virtual_stages_are_cut_like_stages():
    for partition in ("uniform", "parameters"):
        assert boundaries_for(partition, LAYERS, 2, 2) == boundaries_for(partition, LAYERS, 4)
    assert boundaries_for((0, 2, 3, 4, 6), LAYERS, 2, 2) == (0, 2, 3, 4, 6)


@pytest.mark.parametrize(
    ("boundaries", "message"),
    [
        ((0, 3, 6), "[0, 3, 6] has 3 boundaries, but 2 stages x 2 virtual stages need 4 + 1 = 5"),
        (
            (0, 1, 3, 4, 6),
            "[0, 1, 3, 4, 6] leaves virtual stage 0 with layers 0..0 only, which have no parameters to train; "
            "give it at least one more layer",
        ),
    ],
)
def test_explicit_boundaries_of_virtual_stages_are_refused_with_the_rule(boundaries, message):
    with pytest.raises(ValueError) as caught:
        boundaries_for(boundaries, LAYERS, 2, 2)
    assert str(caught.value) == message


@pytest.mark.parametrize(
    ("num_stages", "num_virtual_stages", "message"),
    [
        (
            3,
            2,
            "3 stages x 2 virtual stages = 6 but the model has 6 layers, 1 of them without parameters; use at most 2",
        ),
        (
            2,
            6,
            "2 stages x 6 virtual stages = 12 but the model has 6 layers, 1 of them without parameters; use fewer",
        ),
    ],
)
def test_more_virtual_stages_than_layers_with_parameters(num_stages, num_virtual_stages, message):
    with pytest.raises(ValueError) as caught:
        boundaries_for("uniform", LAYERS, num_stages, num_virtual_stages)
    assert str(caught.value) == message


@pytest.mark.parametrize("partition", ["uniform", "parameters", (0, 1, 2, 3, 4, 5, 6)])
def test_more_stages_than_layers_with_parameters(partition):
    with pytest.raises(ValueError) as caught:
        boundaries_for(partition, LAYERS, 6)
    assert str(caught.value) == "6 stages but the model has 6 layers, 1 of them without parameters; use at most 5"
    embedded = DataShape(num_numeric=4, cardinalities=(3,), output_width=2, task="regression", num_rows=(9, 0, 0))
    with pytest.raises(ValueError) as caught:
        boundaries_for(partition, describe_layers(ModelConfig(hidden=()), embedded), 9)
    assert str(caught.value) == "9 stages but the model has 2 layers; use at most 2"
