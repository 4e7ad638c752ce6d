"""Forwards for evaluation: legal, and as fast as can be."""

from typing import get_args

import pytest
from drawings import draw, drawn_rows
from hypothesis import given
from hypothesis import strategies as st

from pipemlp.schedule import forward_only as module
from pipemlp.schedule.costs import uniform_costs
from pipemlp.schedule.deadlock import check_links
from pipemlp.schedule.forward_only import forward_only
from pipemlp.schedule.lower import lower
from pipemlp.schedule.placement import Placement
from pipemlp.schedule.simulate import simulate
from pipemlp.schedule.simulation import Simulation
from pipemlp.schedule.validate import check

SIZES = (st.integers(1, 8), st.integers(1, 40))


def simulated(num_stages: int, num_micro_batches: int, num_virtual_stages: int, placement: Placement) -> Simulation:
    """A forward of a virtual stage takes one unit."""
    schedule = forward_only(num_stages, num_micro_batches, num_virtual_stages, placement)
    check(schedule, forward_only=True)
    return simulate(schedule, uniform_costs(num_stages, num_virtual_stages, forward=num_virtual_stages))


@pytest.mark.parametrize(("placement", "label"), [("loop", "loop"), ("v", "v   ")])
def test_the_drawings_are_what_happens(placement, label):
    assert drawn_rows(module.__doc__, label) == draw(simulated(3, 4, 2, placement))


@given(*SIZES, st.integers(1, 4))
def test_a_loop_is_as_fast_as_can_be(num_stages, num_micro_batches, num_virtual_stages):
    load = num_virtual_stages * num_micro_batches + num_stages - 1
    path = num_virtual_stages * num_stages + num_micro_batches - 1
    simulation = simulated(num_stages, num_micro_batches, num_virtual_stages, "loop")
    assert simulation.makespan == pytest.approx(max(load, path))


@given(*SIZES, st.integers(1, 2))
def test_a_v_is_as_fast_as_can_be(num_stages, num_micro_batches, num_virtual_stages):
    simulation = simulated(num_stages, num_micro_batches, num_virtual_stages, "v")
    path = num_virtual_stages * num_stages + num_micro_batches - 1
    turn = num_virtual_stages * (num_micro_batches + num_stages - 1)  # way to the last stage, its load, and way back
    assert simulation.makespan == pytest.approx(max(path, turn))


@given(*SIZES, st.integers(3, 5))
def test_a_longer_v_is_legal(num_stages, num_micro_batches, num_virtual_stages):
    simulation = simulated(num_stages, num_micro_batches, num_virtual_stages, "v")
    load = num_virtual_stages * num_micro_batches
    assert simulation.makespan <= 1.5 * load + 2 * num_virtual_stages * num_stages


def test_rounds_wait_for_no_hop_that_is_as_long_as_a_forward():
    for num_stages, num_micro_batches, num_virtual_stages in ((2, 4, 2), (4, 8, 2), (4, 19, 3), (8, 40, 2)):
        schedule = forward_only(num_stages, num_micro_batches, num_virtual_stages, "loop")
        costs = uniform_costs(num_stages, num_virtual_stages, forward=num_virtual_stages, hop=1.0)
        expected = num_virtual_stages * num_micro_batches + 2 * (num_stages - 1)
        assert simulate(schedule, costs).makespan == pytest.approx(expected)


@given(*SIZES, st.integers(1, 3), st.sampled_from(get_args(Placement)))
def test_its_programs_cannot_hang(num_stages, num_micro_batches, num_virtual_stages, placement):
    simulation = simulated(num_stages, num_micro_batches, num_virtual_stages, placement)
    check_links(lower(simulation), simulation.schedule)


def test_a_size_below_one_is_refused():
    for sizes in ((0, 1, 1), (1, 0, 1), (1, 1, 0)):
        with pytest.raises(ValueError, match="needs at least 1"):
            forward_only(*sizes, "loop")
