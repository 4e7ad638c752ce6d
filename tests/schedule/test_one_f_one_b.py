"""1F1B: the drawing, the order of DeepSpeed, and what is in flight."""

import re
from itertools import product

import pytest
from deepspeed.runtime.pipe.schedule import BackwardPass, ForwardPass, TrainSchedule
from hypothesis import given
from hypothesis import strategies as st

from pipemlp.schedule import one_f_one_b
from pipemlp.schedule.action import Action
from pipemlp.schedule.one_f_one_b import bubble_fraction, num_in_flight, stage_actions

GRID = list(product(range(1, 9), range(1, 25)))
"""Stages x micro-batches, fewer micro-batches than stages included."""


def clocked(num_stages: int, num_micro_batches: int) -> dict[Action, int]:
    """When each action starts, if all take one unit of time and a hop takes none."""
    orders = [list(stage_actions(stage, num_stages, num_micro_batches)) for stage in range(num_stages)]
    starts: dict[Action, int] = {}
    for time in range(2 * num_stages * num_micro_batches + 1):
        for order in orders:
            if order and all(starts.get(action, time) < time for action in needed_by(order[0], num_stages)):
                starts[order.pop(0)] = time
    assert not any(orders), "some action never gets what it waits for"
    return starts


def needed_by(action: Action, num_stages: int) -> list[Action]:
    stage, kind, micro_batch = action
    if kind == "F":
        return [Action(stage - 1, "F", micro_batch)] if stage > 0 else []
    gradient = [Action(stage + 1, "B", micro_batch)] if stage + 1 < num_stages else []
    return [Action(stage, "F", micro_batch), *gradient]


def test_the_drawing_is_what_happens():
    rows = re.findall(r"^    stage (\d)   (.+)$", one_f_one_b.__doc__, re.MULTILINE)
    drawn = {
        (int(stage), column // 3, line[column : column + 2])
        for stage, line in rows
        for column in range(0, len(line), 3)
        if line[column : column + 2].strip(". ")
    }
    happened = {(a.virtual_stage, time, f"{a.kind}{a.micro_batch}") for a, time in clocked(3, 5).items()}
    assert drawn == happened
    waiting = [line.strip().split() for _, line in rows]
    assert [cells.count("..") for cells in waiting] == [4, 2, 0]


@pytest.mark.parametrize("num_stages", range(1, 9))
def test_the_order_is_that_of_deepspeed(num_stages):
    for stage, num_micro_batches in product(range(num_stages), range(1, 25)):
        steps = TrainSchedule(num_micro_batches, num_stages, stage).steps()
        kinds = [type(command) for commands in steps for command in commands]
        computing = ["F" if kind is ForwardPass else "B" for kind in kinds if kind in (ForwardPass, BackwardPass)]
        actions = stage_actions(stage, num_stages, num_micro_batches)
        assert [action.kind for action in actions] == computing
        for kind in "FB":
            assert [a.micro_batch for a in actions if a.kind == kind] == list(range(num_micro_batches))


def test_in_flight_is_reached_and_never_exceeded():
    for num_stages, num_micro_batches in GRID:
        for stage in range(num_stages):
            held, most = 0, 0
            for action in stage_actions(stage, num_stages, num_micro_batches):
                held += 1 if action.kind == "F" else -1
                most = max(most, held)
            assert (held, most) == (0, num_in_flight(stage, num_stages, num_micro_batches))


@given(num_stages=st.integers(1, 8), num_micro_batches=st.integers(1, 24))
def test_the_bubble_is_the_idle_share_of_the_clocked_schedule(num_stages, num_micro_batches):
    makespan = max(clocked(num_stages, num_micro_batches).values()) + 1
    assert makespan == 2 * (num_micro_batches + num_stages - 1)
    idle = 1 - 2 * num_micro_batches / makespan
    assert bubble_fraction(num_stages, num_micro_batches) == pytest.approx(idle)


def test_the_text_form():
    assert str(Action(2, "F", 0)) == f"{Action(2, 'F', 0)}" == "2F0"
    assert " ".join(map(str, stage_actions(1, 3, 3))) == "1F0 1F1 1B0 1F2 1B1 1B2"


def test_actions_are_values():
    assert Action(1, "B", 3) == Action(1, "B", 3) != Action(1, "F", 3)
    assert stage_actions(0, 2, 3) == stage_actions(0, 2, 3)
