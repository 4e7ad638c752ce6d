"""Lowered programs pass on the weakest links; programs made wrong by hand are refused with the reason."""

import random
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from random_schedules import SEEDS, costs_of, program, schedule_of, schedules

from pipemlp.schedule.action import Action, Kind
from pipemlp.schedule.costs import uniform_costs
from pipemlp.schedule.deadlock import check_links
from pipemlp.schedule.errors import ScheduleError
from pipemlp.schedule.lower import lower
from pipemlp.schedule.schedule import Schedule
from pipemlp.schedule.simulate import simulate
from pipemlp.schedule.validate import check

TWO = schedule_of("0F0 0F1 0B0 0B1", "1F0 1B0 1F1 1B1", num_micro_batches=2)
LEFT = "0F0 0SEND_F0 0F1 0SEND_F1 0RECV_B0 0B0 0RECV_B1 0B1"
RIGHT = "1RECV_F0 1F0 1B0 1SEND_B0 1RECV_F1 1F1 1B1 1SEND_B1"
READY_RIGHT = "1RECV_F0 1RECV_F1 1F0 1B0 1SEND_B0 1F1 1B1 1SEND_B1"


@given(schedules(), st.data())
def test_every_lowered_schedule_passes(schedule: Schedule, data: st.DataObject) -> None:
    check_links(lower(simulate(schedule, data.draw(costs_of(schedule.depth)))), schedule)


@given(schedules())
def test_so_does_every_order_of_forwards_alone(schedule: Schedule) -> None:
    rows = tuple(tuple(action for action in row if action.kind == "F") for row in schedule.actions)
    forwards = replace(schedule, actions=rows)
    check(forwards, forward_only=True)
    check_links(lower(simulate(forwards, uniform_costs(schedule.num_stages, schedule.num_virtual_stages))), forwards)


def test_both_ways_to_post_in_time_pass() -> None:
    check_links((program(LEFT), program(READY_RIGHT)), TWO)
    check_links((program(LEFT.replace("0F1 0SEND_F1 0RECV_B0", "0F1 0RECV_B0 0SEND_F1")), program(RIGHT)), TWO)


MISTAKES = {
    "two sends meet": (
        (LEFT, RIGHT),
        "row 1, column 4: 0SEND_F1 waits until row 2 gets ready to receive it; "
        "row 2, column 4: 1SEND_B0 waits until row 1 gets ready to receive it: a circle",
    ),
    "swapped receives": (
        (LEFT, READY_RIGHT.replace("1RECV_F0 1RECV_F1", "1RECV_F1 1RECV_F0")),
        "link from row 1 to row 2, message 1: 0SEND_F0 (row 1, column 2) is sent, "
        "1RECV_F1 (row 2, column 1) is received",
    ),
    "swapped sends": (
        (LEFT.replace("0SEND_F0 0F1 0SEND_F1", "0F1 0SEND_F1 0SEND_F0"), READY_RIGHT),
        "link from row 1 to row 2, message 1: 0SEND_F1 (row 1, column 3) is sent, "
        "1RECV_F0 (row 2, column 1) is received",
    ),
    "no receive": (
        (LEFT, READY_RIGHT.replace("1RECV_F1 ", "")),
        "row 2, column 5: 1F1 needs 1RECV_F1, which does not come before it",
    ),
    "receive too late": (
        (LEFT, READY_RIGHT.replace("1RECV_F1 ", "").replace("1F1", "1F1 1RECV_F1")),
        "row 2, column 5: 1F1 needs 1RECV_F1, which does not come before it",
    ),
    "no send": (
        (LEFT.replace("0SEND_F1 ", ""), READY_RIGHT),
        "link from row 1 to row 2, message 2: nothing is sent, 1RECV_F1 (row 2, column 2) is received",
    ),
    "sent twice": (
        (LEFT.replace("0SEND_F1", "0SEND_F1 0SEND_F1"), READY_RIGHT),
        "link from row 1 to row 2, message 3: 0SEND_F1 (row 1, column 5) is sent, nothing is received",
    ),
    "sent before it is made": (
        (LEFT.replace("0F1 0SEND_F1", "0SEND_F1 0F1"), READY_RIGHT),
        "row 1, column 3: 0SEND_F1 sends what is not computed before it in this row",
    ),
    "sent to nobody": (
        (LEFT, f"{READY_RIGHT} 1SEND_F0"),
        "row 2, column 9: 1SEND_F0 sends what no other row needs",
    ),
    "received from nobody": (
        (f"0RECV_F0 {LEFT}", READY_RIGHT),
        "row 1, column 1: 0RECV_F0 receives nothing that this row needs from another",
    ),
    "received elsewhere": (
        (f"1RECV_F0 {LEFT}", READY_RIGHT),
        "row 1, column 1: 1RECV_F0 receives nothing that this row needs from another",
    ),
    "another order": (
        (LEFT.replace("0F0", "0F1", 1), READY_RIGHT),
        "row 1: the program does not compute what the schedule says",
    ),
    "a program too few": (
        (LEFT,),
        "1 programs for 2 stages; every stage needs one",
    ),
}


@pytest.mark.parametrize(("programs", "message"), MISTAKES.values(), ids=list(MISTAKES))
def test_programs_made_wrong_are_refused(programs: tuple[str, ...], message: str) -> None:
    with pytest.raises(ScheduleError) as error:
        check_links(tuple(map(program, programs)), TWO)
    assert str(error.value) == message


def hangs(programs: list[list[Action]], schedule: Schedule, generator: random.Random) -> bool:
    """Whether a run that picks stages at random, one step at a time, comes to a stop before the end."""
    todo = [list(reversed(steps)) for steps in programs]
    done: set[Action] = set()

    def can_go(stage: int) -> bool:
        virtual_stage, kind, micro_batch = todo[stage][-1]
        if kind == "SEND_F":
            return Action(virtual_stage + 1, "RECV_F", micro_batch) in done
        if kind == "SEND_B":
            return Action(virtual_stage - 1, "RECV_B", micro_batch) in done
        if kind == "F" and virtual_stage > 0:
            away = schedule.stage_of(virtual_stage - 1) != stage
            return Action(virtual_stage - 1, "SEND_F" if away else "F", micro_batch) in done
        if kind in ("B", "I") and virtual_stage + 1 < schedule.depth:
            away = schedule.stage_of(virtual_stage + 1) != stage
            makers: tuple[Kind, ...] = ("SEND_B",) if away else ("B", "I")
            return any(Action(virtual_stage + 1, maker, micro_batch) in done for maker in makers)
        return True

    while ready := [stage for stage, steps in enumerate(todo) if steps and can_go(stage)]:
        done.add(todo[generator.choice(ready)].pop())
    return any(todo)


@given(schedules(num_micro_batches=4), SEEDS)
def test_whether_late_receives_hang_is_told_for_any_run(schedule: Schedule, seed: int) -> None:
    generator = random.Random(seed)
    costs = uniform_costs(schedule.num_stages, schedule.num_virtual_stages)
    programs = [list(steps) for steps in lower(simulate(schedule, costs))]
    for steps in programs:
        delay_receives(steps, schedule, generator)
    try:
        check_links(programs, schedule)
    except ScheduleError as error:
        assert "gets ready to receive it" in str(error)
        assert hangs(programs, schedule, generator)
    else:
        assert not hangs(programs, schedule, generator)


def delay_receives(steps: list[Action], schedule: Schedule, generator: random.Random) -> None:
    """Move some receives to where they are needed, or as far towards it as the order of their link allows."""
    for receive in [step for step in reversed(steps) if step.kind in ("RECV_F", "RECV_B")]:
        if generator.random() < 0.7:
            position = steps.index(receive)
            steps.pop(position)
            while not stops(steps[position], receive, schedule):
                position += 1
            steps.insert(position, receive)


def stops(step: Action, receive: Action, schedule: Schedule) -> bool:
    """Whether `receive` may not move past `step`: it needs what is received, or is the next receive on the link."""
    if step.kind == receive.kind or {step.kind, receive.kind} == {"RECV_F", "RECV_B"}:
        return sender(step, schedule) == sender(receive, schedule)
    return step[::2] == receive[::2] and step.kind in (("F",) if receive.kind == "RECV_F" else ("B", "I"))


def sender(receive: Action, schedule: Schedule) -> int:
    return schedule.stage_of(receive.virtual_stage + (-1 if receive.kind == "RECV_F" else 1))


def test_a_transfer_within_a_stage_is_refused() -> None:
    v = schedule_of("0F0 3F0 3B0 0B0", "1F0 2F0 2B0 1B0", num_virtual_stages=2, num_micro_batches=1, placement="v")
    programs = [list(steps) for steps in lower(simulate(v, uniform_costs(2, 2)))]
    check_links(programs, v)
    programs[1].insert(programs[1].index(Action(1, "F", 0)) + 1, Action(1, "SEND_F", 0))
    with pytest.raises(ScheduleError, match="^row 2, column 3: 1SEND_F0 sends what no other row needs$"):
        check_links(programs, v)


def test_a_schedule_with_a_circle_hangs_by_name() -> None:
    """Not one that `check` accepts; the computations wait for each other, not the transfers."""
    rows = ("0F0 0B0", "1F0 1B0")
    schedule = replace(schedule_of(*rows, num_micro_batches=1), placement="v", num_virtual_stages=1)
    late = ("0RECV_B0 0F0 0SEND_F0 0B0", "1RECV_F0 1F0 1B0 1SEND_B0")
    check_links(tuple(map(program, late)), schedule)
    stuck = schedule_of("0F0 0B0 0F1 0B1", "1F1 1F0 1B0 1B1", num_micro_batches=2)
    programs = (
        "0F0 0SEND_F0 0RECV_B0 0B0 0F1 0SEND_F1 0RECV_B1 0B1",
        "1RECV_F0 1RECV_F1 1F1 1F0 1B0 1SEND_B0 1B1 1SEND_B1",
    )
    with pytest.raises(ScheduleError) as error:
        check_links(tuple(map(program, programs)), stuck)
    assert str(error.value) == (
        "row 1, column 4: 0B0 waits for 1B0 of row 2; row 2, column 3: 1F1 waits for 0F1 of row 1: a circle"
    )
