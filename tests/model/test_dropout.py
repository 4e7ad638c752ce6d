"""Dropout masks: a function of seed, layer, step, row and column, with the statistics of independent coins."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from pipemlp.model.dropout import Dropout, DropoutKey, dropout
from pipemlp.model.dropout_mask import kept_values

CPU = torch.device("cpu")
SIDE = 512
PINNED = [
    "..#..#...#......#...........#..#",
    ".#.#...####...#.#....#.##.#....#",
    "##...###...##.#..####...#.....##",
    "..###..#...........#.......#..##",
]


def mask(rate=0.3, shape=(SIDE, SIDE), seed=7, layer=3, step=11, first_row=0, device=CPU):
    return ~kept_values(shape, rate, seed=seed, layer=layer, step=step, first_row=first_row, device=device)


def standardised(rate=0.3, **changes):
    """The mask as numbers of mean 0 and variance 1."""
    return (mask(rate, **changes).double() - rate) / math.sqrt(rate * (1 - rate))


def test_the_mask_is_pinned():
    """Masks are part of what a run computes: a change breaks resuming with the same numbers."""
    rows = ["".join(".#"[int(value)] for value in row) for row in mask(shape=(4, 32), first_row=2)]
    assert rows == PINNED


@settings(max_examples=50, deadline=None)
@given(
    cuts=st.lists(st.integers(0, 40), max_size=5).map(sorted),
    first_row=st.integers(0, 10_000),
    width=st.integers(1, 33),
    seed=st.integers(0, 2**63),
    step=st.integers(0, 2**40),
)
def test_slicing_the_rows_changes_nothing(cuts, first_row, width, seed, step):
    key = {"seed": seed, "step": step}
    whole = mask(shape=(40, width), first_row=first_row, **key)
    edges = [0, *cuts, 40]
    parts = [mask(shape=(b - a, width), first_row=first_row + a, **key) for a, b in zip(edges, edges[1:], strict=False)]
    assert torch.equal(torch.cat(parts), whole)


@pytest.mark.parametrize("rate", [0.01, 0.1, 0.5, 0.9])
def test_every_row_and_column_drops_its_share(rate):
    coins = standardised(rate)
    assert abs(coins.mean() * SIDE) < 4
    for sums in (coins.sum(0), coins.sum(1)):
        z = sums / math.sqrt(SIDE)
        assert z.abs().max() < 6
        assert abs(z.std() - 1) < 4 / math.sqrt(2 * SIDE)


@pytest.mark.parametrize("rate", [0.1, 0.5])
def test_rows_and_columns_are_uncorrelated(rate):
    coins = standardised(rate)
    for products in (coins @ coins.T, coins.T @ coins):
        z = (products / math.sqrt(SIDE)).fill_diagonal_(0)
        assert z.abs().max() < 8
        assert abs((z**2).sum() / (SIDE * (SIDE - 1)) - 1) < 0.03


@pytest.mark.parametrize("change", [{"seed": 8}, {"layer": 4}, {"step": 12}, {"first_row": 1}, {"first_row": 2**20}])
def test_other_seeds_layers_steps_and_rows_are_uncorrelated(change):
    coins, others = standardised(), standardised(**change)
    assert abs((coins * others).sum() / SIDE) < 5
    if change != {"first_row": 1}:  # which has rows in common, one further down
        assert (coins @ others.T / math.sqrt(SIDE)).abs().max() < 8
    assert (coins.T @ others / math.sqrt(SIDE)).abs().max() < 8


def test_one_place_over_many_steps_is_a_fair_coin():
    over_steps = torch.stack([standardised(shape=(8, 32), step=step) for step in range(1000)])
    assert (over_steps.sum(0) / math.sqrt(1000)).abs().max() < 5
    assert ((over_steps[1:] * over_steps[:-1]).sum(0) / math.sqrt(999)).abs().max() < 5


def test_small_and_large_rates():
    assert not mask(rate=0.0).any()
    assert mask(rate=1 - 1e-9).all()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_values_are_dropped_or_scaled_and_so_are_gradients(dtype):
    x = torch.randn(6, 40, dtype=dtype, requires_grad=True)
    drop = mask(rate=0.25, shape=(6, 40))
    y = dropout(x, 0.25, DropoutKey(seed=7, step=11, first_row=0), layer_index=3)
    assert y.dtype == dtype
    assert torch.equal(y, (x * (1 / 0.75)).masked_fill(drop, 0.0))
    y.backward(torch.ones_like(y))
    assert torch.equal(x.grad == 0, drop)


def test_only_a_bool_mask_is_kept():
    kept = []
    x = torch.randn(6, 40, requires_grad=True)
    with torch.autograd.graph.saved_tensors_hooks(lambda t: kept.append(t.dtype) or t, lambda t: t):
        dropout(x, 0.25, DropoutKey(1, 2, 3), layer_index=3)
    assert kept == [torch.bool]


def test_identity_without_key_without_rate_and_in_evaluation():
    x, key = torch.randn(3, 4), DropoutKey(seed=1, step=1, first_row=0)
    layer = Dropout(0.5, layer_index=1)
    assert layer(x) is x
    assert Dropout(0.0, layer_index=1)(x, key) is x
    assert not torch.equal(layer(x, key), x)
    assert layer.eval()(x, key) is x


def test_no_rows():
    assert dropout(torch.empty(0, 4), 0.5, DropoutKey(1, 1, 0), 1).shape == (0, 4)


def test_the_global_generator_is_untouched():
    state = torch.get_rng_state()
    mask()
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_a_gpu_makes_the_same_masks():
    for changes in ({}, {"first_row": 5000}, {"seed": 2**63, "step": 2**40}, {"shape": (1, 1)}):
        assert torch.equal(mask(device=torch.device("cuda", 0), **changes).cpu(), mask(**changes))
