"""What counts as the best value so far."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipemlp.training.improvement import Improvement


@pytest.mark.parametrize(
    ("larger_is_better", "values", "improved", "best", "num_since"),
    [
        (False, [3.0, 2.0, 2.0, 2.5, 1.0], [True, True, False, False, True], 1.0, 0),
        (True, [0.5, 0.7, 0.7, 0.6], [True, True, False, False], 0.7, 2),
        (False, [math.nan, 2.0, math.nan], [False, True, False], 2.0, 1),
        (True, [-1.0, -0.5], [True, True], -0.5, 0),
        (False, [math.inf, 5.0], [True, True], 5.0, 0),
    ],
)
def test_a_sequence(larger_is_better, values, improved, best, num_since):
    improvement = Improvement(larger_is_better)
    assert [improvement.update(value) for value in values] == improved
    assert (improvement.best, improvement.num_since) == (best, num_since)


def test_less_than_min_delta_does_not_count():
    improvement = Improvement(larger_is_better=False, min_delta=0.1)
    assert [improvement.update(value) for value in (1.0, 0.95, 0.91, 0.89)] == [True, False, False, True]
    assert improvement.best == 0.89


@given(st.lists(st.floats(allow_infinity=False), min_size=1), st.booleans())
def test_without_min_delta_the_best_is_the_extreme(values, larger_is_better):
    improvement = Improvement(larger_is_better)
    for value in values:
        improvement.update(value)
    numbers = [value for value in values if not math.isnan(value)]
    extreme = (max if larger_is_better else min)(numbers) if numbers else None
    assert improvement.best == extreme
    assert improvement.num_since == (len(values) - 1 - values.index(extreme) if numbers else len(values))
