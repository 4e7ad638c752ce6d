"""1F1B: the drawing, the order of DeepSpeed, and what is in flight."""

from itertools import product

import pytest
from deepspeed.runtime.pipe.schedule import BackwardPass, ForwardPass, TrainSchedule
from drawings import draw, drawn_rows
from hypothesis import given
from hypothesis import strategies as st

from pipemlp.schedule import one_f_one_b as module
from pipemlp.schedule.costs import uniform_costs
from pipemlp.schedule.one_f_one_b import one_f_one_b
from pipemlp.schedule.simulate import simulate

GRID = list(product(range(1, 9), range(1, 25)))
"""Stages x micro-batches, fewer micro-batches than stages included."""


def simulated(num_stages: int, num_micro_batches: int):
    """With a backward as long as a forward."""
    costs = uniform_costs(num_stages, input_gradient=0.5, weight_gradient=0.5)
    return simulate(one_f_one_b(num_stages, num_micro_batches), costs)


def test_the_drawing_is_what_happens():
    rows = drawn_rows(module.__doc__)
    assert rows == draw(simulated(3, 5))
    assert [row.split().count("..") for row in rows] == [4, 2, 0]


@pytest.mark.parametrize("num_stages", range(1, 9))
def test_the_order_is_that_of_deepspeed(num_stages):
    for num_micro_batches, stage in product(range(1, 25), range(num_stages)):
        steps = TrainSchedule(num_micro_batches, num_stages, stage).steps()
        kinds = [type(command) for commands in steps for command in commands]
        computing = ["F" if kind is ForwardPass else "B" for kind in kinds if kind in (ForwardPass, BackwardPass)]
        actions = one_f_one_b(num_stages, num_micro_batches).actions[stage]
        assert [action.kind for action in actions] == computing
        assert {action.virtual_stage for action in actions} == {stage}
        for kind in "FB":
            assert [a.micro_batch for a in actions if a.kind == kind] == list(range(num_micro_batches))


def test_in_flight_is_reached_and_never_exceeded():
    for num_stages, num_micro_batches in GRID:
        expected = tuple(min(num_stages - stage, num_micro_batches) for stage in range(num_stages))
        assert simulated(num_stages, num_micro_batches).peak_in_flight == expected


@given(num_stages=st.integers(1, 8), num_micro_batches=st.integers(1, 24))
def test_the_bubble_is_the_idle_share_of_the_clocked_schedule(num_stages, num_micro_batches):
    simulation = simulated(num_stages, num_micro_batches)
    assert simulation.makespan == 2 * (num_micro_batches + num_stages - 1)
    fraction = (num_stages - 1) / (num_micro_batches + num_stages - 1)
    assert simulation.bubble_fraction == pytest.approx(fraction)


def test_the_text_form():
    assert " ".join(map(str, one_f_one_b(3, 3).actions[1])) == "1F0 1F1 1B0 1F2 1B1 1B2"


def test_it_is_a_value():
    assert one_f_one_b(2, 3) == one_f_one_b(2, 3) != one_f_one_b(2, 4)
