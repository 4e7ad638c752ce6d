"""Where the transfers go: sends right after their actions, receives early enough and no earlier."""

import re
from collections import defaultdict

from hypothesis import given
from hypothesis import strategies as st
from random_schedules import costs_of, schedule_of, schedules

from pipemlp.schedule import lower as lower_module
from pipemlp.schedule.action import COMPUTE_KINDS, Action, Kind
from pipemlp.schedule.costs import uniform_costs
from pipemlp.schedule.lower import lower
from pipemlp.schedule.schedule import Schedule
from pipemlp.schedule.simulate import simulate


def maker(receive: Action, schedule: Schedule) -> Action:
    """The send that a receive waits for."""
    virtual_stage, kind, micro_batch = receive
    return (
        Action(virtual_stage - 1, "SEND_F", micro_batch)
        if kind == "RECV_F"
        else Action(virtual_stage + 1, "SEND_B", micro_batch)
    )


def test_the_drawing() -> None:
    schedule = schedule_of("0F0 0F1 0B0 0B1", "1F0 1B0 1F1 1B1", num_micro_batches=2)
    drawn = re.findall(r"stage \d +([^(\n]*)", lower_module.__doc__ or "")
    assert [" ".join(map(str, steps)) for steps in lower(simulate(schedule, uniform_costs(2)))] == [
        " ".join(row.split()) for row in drawn
    ]


@given(schedules(), st.data())
def test_programs_are_the_schedule_with_transfers(schedule: Schedule, data: st.DataObject) -> None:
    programs = lower(simulate(schedule, data.draw(costs_of(schedule.depth))))
    for actions, steps in zip(schedule.actions, programs, strict=True):
        assert tuple(step for step in steps if step.kind in COMPUTE_KINDS) == actions
        for before, step in zip(steps, steps[1:], strict=False):
            if step.kind in ("SEND_F", "SEND_B"):
                assert before[::2] == step[::2]
                assert before.kind == "F" if step.kind == "SEND_F" else before.kind in ("B", "I")


@given(schedules(), st.data())
def test_every_cut_to_another_stage_is_crossed_in_order(schedule: Schedule, data: st.DataObject) -> None:
    programs = lower(simulate(schedule, data.draw(costs_of(schedule.depth))))
    sends: dict[tuple[int, int], list[Action]] = defaultdict(list)
    receives: dict[tuple[int, int], list[Action]] = defaultdict(list)
    for stage, steps in enumerate(programs):
        for step in steps:
            if step.kind in ("SEND_F", "SEND_B"):
                other = step.virtual_stage + (1 if step.kind == "SEND_F" else -1)
                sends[stage, schedule.stage_of(other)].append(step)
            elif step.kind in ("RECV_F", "RECV_B"):
                send = maker(step, schedule)
                receives[schedule.stage_of(send.virtual_stage), stage].append(send)
    assert sends == receives
    away = sum(schedule.stage_of(cut) != schedule.stage_of(cut + 1) for cut in range(schedule.depth - 1))
    assert sum(map(len, sends.values())) == 2 * away * schedule.num_micro_batches


@given(schedules(), st.data())
def test_a_receive_is_posted_while_the_sender_computes(schedule: Schedule, data: st.DataObject) -> None:
    """Before the first own action that ends after the sender's action has started."""
    simulation = simulate(schedule, data.draw(costs_of(schedule.depth)))
    starts = {
        action: start
        for actions, row in zip(schedule.actions, simulation.starts, strict=True)
        for action, start in zip(actions, row, strict=True)
    }
    for stage, steps in enumerate(lower(simulation)):
        ends = simulation.ends[stage]
        count = 0
        for step in steps:
            if step.kind in ("RECV_F", "RECV_B"):
                send = maker(step, schedule)
                kinds: tuple[Kind, ...] = ("F",) if send.kind == "SEND_F" else ("B", "I")
                start = next(starts[action] for kind in kinds if (action := Action(send[0], kind, send[2])) in starts)
                assert all(end <= start for end in ends[:count])
                assert all(end > start for end in ends[count:])
            count += step.kind in COMPUTE_KINDS
