"""The sample order is a bijection, pure, and different for every seed and epoch."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipemlp.data.sampler import Permutation, batch_positions, steps_per_epoch

rows = st.integers(1, 700)
seeds = st.integers(0, 2**63)


@settings(max_examples=60, deadline=None)
@given(num_rows=rows, seed=seeds, epoch=st.integers(0, 10_000))
def test_permutation_is_a_bijection_with_its_inverse(num_rows: int, seed: int, epoch: int) -> None:
    order = Permutation(num_rows, seed, epoch)
    places = np.arange(num_rows)
    forward = order.forward(places)
    assert sorted(forward.tolist()) == places.tolist()
    assert (order.inverse(forward) == places).all()


@settings(max_examples=40, deadline=None)
@given(num_rows=rows, seed=seeds, epoch=st.integers(0, 100), batch=st.integers(1, 100))
def test_an_epoch_visits_every_row_once(num_rows: int, seed: int, epoch: int, batch: int) -> None:
    steps = steps_per_epoch(num_rows, batch)
    batches = [batch_positions(num_rows, seed, epoch, step, batch) for step in range(steps)]
    assert [len(positions) for positions in batches[:-1]] == [batch] * (steps - 1)
    assert sorted(np.concatenate(batches).tolist()) == list(range(num_rows))
    assert all(positions.dtype == np.int64 for positions in batches)


@settings(max_examples=30, deadline=None)
@given(num_rows=st.integers(1, 10**12), seed=seeds, step=st.integers(0, 10**6))
def test_order_is_pure_and_needs_no_memory(num_rows: int, seed: int, step: int) -> None:
    step %= steps_per_epoch(num_rows, 8)
    first = batch_positions(num_rows, seed, 3, step, 8)
    batch_positions(num_rows, seed + 1, 4, 0, 8)
    assert (first == batch_positions(num_rows, seed, 3, step, 8)).all()
    assert len(set(first.tolist())) == len(first)


@settings(max_examples=30, deadline=None)
@given(num_rows=st.integers(50, 700), seed=st.integers(0, 2**62), epoch=st.integers(0, 1000))
def test_seeds_and_epochs_differ(num_rows: int, seed: int, epoch: int) -> None:
    places = np.arange(num_rows)
    order = Permutation(num_rows, seed, epoch).forward(places)
    for other in (Permutation(num_rows, seed + 1, epoch), Permutation(num_rows, seed, epoch + 1)):
        assert (order != other.forward(places)).any()


def test_global_batch_does_not_depend_on_how_it_is_asked_for() -> None:
    whole = batch_positions(1000, 5, 2, 0, 1000)
    parts = [batch_positions(1000, 5, 2, step, 48) for step in range(21)]
    assert (np.concatenate(parts) == whole).all()


@pytest.mark.parametrize("num_rows", [5, 16, 100, 257])
def test_every_row_comes_first_about_equally_often(num_rows: int) -> None:
    draws = 40 * num_rows
    first = [int(Permutation(num_rows, 1, epoch).forward(np.array([0]))[0]) for epoch in range(min(draws, 4000))]
    counts = np.bincount(first, minlength=num_rows)
    expected = len(first) / num_rows
    chi_square = float(((counts - expected) ** 2 / expected).sum())
    assert chi_square < num_rows - 1 + 5 * np.sqrt(2 * num_rows)


def test_neighbours_are_not_kept_together() -> None:
    order = Permutation(4096, 9).forward(np.arange(4096))
    assert abs(float(np.corrcoef(order[:-1], order[1:])[0, 1])) < 0.06
    assert abs(float(np.corrcoef(np.arange(4096), order)[0, 1])) < 0.06


def test_outside_is_refused() -> None:
    with pytest.raises(IndexError, match="step 4 of 4"):
        batch_positions(10, 0, 0, 4, 3)
    with pytest.raises(IndexError, match=r"0\.\.9"):
        Permutation(10, 0).forward(np.array([10]))


def test_golden_order_stays_between_versions() -> None:
    assert batch_positions(10, 0, 0, 0, 10).tolist() == GOLDEN


GOLDEN = [5, 1, 3, 4, 2, 9, 6, 8, 0, 7]
