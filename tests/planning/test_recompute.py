"""Which layers keep one input together."""

from hypothesis import given
from hypothesis import strategies as st

from pipemlp.planning.recompute import group_bounds


def test_by_hand():
    assert group_bounds([True] * 5, 0) == group_bounds([True] * 5, "elementwise") == [(0, 5)]
    assert group_bounds([True] * 5, 2) == [(0, 2), (2, 4), (4, 5)]
    assert group_bounds([False, True, True, False, True], 1) == [(0, 2), (2, 3), (3, 4), (4, 5)]
    assert group_bounds([False, True, True, True], 2) == [(0, 3), (3, 4)]


@given(st.lists(st.booleans(), min_size=1, max_size=30).filter(any), st.integers(1, 40))
def test_groups_cover_the_run_and_the_first_one_trains(trained, every):
    bounds = group_bounds(trained, every)
    assert [start for start, _ in bounds] == [0, *(stop for _, stop in bounds[:-1])]
    assert bounds[-1][1] == len(trained)
    first, *others = (stop - start for start, stop in bounds)
    assert any(trained[:first])
    assert all(size == every for size in others[:-1]) and all(size <= every for size in others)
