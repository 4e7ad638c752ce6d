"""Synthetic rows are functions of seed and row, at any size."""

import numpy as np
import pytest

from pipemlp.config.data import Teacher
from pipemlp.data.origins.teacher import TeacherSource, hashed_normal


def test_values_are_standard_normal() -> None:
    values = hashed_normal(3, np.arange(20_000), 8)
    assert np.abs(values.mean(axis=0)).max() < 0.04
    assert np.abs(values.std(axis=0) - 1).max() < 0.03
    assert np.abs(np.corrcoef(values.T) - np.eye(8)).max() < 0.04


@pytest.mark.parametrize("options", [{}, {"outputs": 3}, {"classes": 5}, {"hidden": 0}])
def test_a_row_does_not_depend_on_what_is_read_with_it(options: dict[str, int]) -> None:
    source = TeacherSource(Teacher(rows=10_000, inputs=7, **options))
    rows = np.array([9_999, 3, 3, 512])
    together = source.read(rows)
    for index, row in enumerate(rows):
        alone = source.read(np.array([row]))
        assert all((alone[name] == values[index]).all() for name, values in together.items())
    everything = source.read(np.arange(10_000))
    assert all((everything[name][rows] == values).all() for name, values in together.items())


@pytest.mark.parametrize("hidden", [0, 32])
def test_target_has_about_unit_deviation_and_can_be_learned(hidden: int) -> None:
    source = TeacherSource(Teacher(rows=5000, hidden=hidden, noise=0.0, inputs=16))
    target = source.read(np.arange(5000))["y"]
    assert 0.6 < target.std() < 1.5
    assert abs(target.mean()) < 0.2


def test_hundred_million_rows_are_not_stored() -> None:
    source = TeacherSource(Teacher(rows=100_000_000, classes=4))
    columns = source.read(np.array([99_999_999, 0]))
    assert columns["y"].shape == (2,)
    assert set(np.unique(source.read(np.arange(2000))["y"])) == {0, 1, 2, 3}


def test_seeds_differ_and_targets_cost_nothing_unasked() -> None:
    first, second = (TeacherSource(Teacher(rows=10, seed=seed)) for seed in (0, 1))
    rows = np.arange(10)
    assert (first.read(rows)["x0"] != second.read(rows)["x0"]).all()
    assert list(first.read_columns(rows, ("x1",))) == ["x1"]
    assert first.fingerprint != second.fingerprint
