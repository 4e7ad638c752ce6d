"""What `check` refuses, and how it names the place."""

import random
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from random_schedules import SEEDS, schedule_of, schedules

from pipemlp.schedule.action import Action
from pipemlp.schedule.errors import ScheduleError
from pipemlp.schedule.schedule import Schedule
from pipemlp.schedule.validate import check


@given(schedules())
def test_every_legal_order_is_accepted(schedule: Schedule) -> None:
    check(schedule)


MISTAKES = {
    "doubled": (
        ("0F0 0F1 0B0 0B1", "1F0 1B0 1F1 1F0 1B1"),
        "row 2, column 4: 1F0 stands twice, first in column 1",
    ),
    "other stage": (
        ("0F0 0F1 1F1 0B0 0B1", "1F0 1B0 1B1"),
        "row 1, column 3: 1F1 belongs in row 2: virtual stage 1 is there, here are only 0",
    ),
    "virtual stage out of range": (
        ("0F0 0F1 2F1 0B0 0B1", "1F0 1B0 1F1 1B1"),
        "row 1, column 3: 2F1 is for virtual stage 2; there are only 0..1",
    ),
    "micro-batch out of range": (
        ("0F0 0F2 0F1 0B0 0B1", "1F0 1B0 1F1 1B1"),
        "row 1, column 2: 0F2 is for micro-batch 2; there are only 0..1",
    ),
    "backward first": (
        ("0F0 0F1 0B0 0B1", "1F0 1B0 1B1 1F1"),
        "row 2, column 3: 1B1 stands before 1F1, which is in column 4",
    ),
    "backward without forward": (
        ("0F0 0B1 0B0", "1F0 1B0 1F1 1B1"),
        "row 1, column 2: 0B1 stands without 0F1",
    ),
    "weights first": (
        ("0F0 0F1 0W0 0I0 0B1", "1F0 1B0 1F1 1B1"),
        "row 1, column 3: 0W0 stands before 0I0, which is in column 4",
    ),
    "weights without input": (
        ("0F0 0F1 0W0 0B1", "1F0 1B0 1F1 1B1"),
        "row 1, column 3: 0W0 stands without 0I0",
    ),
    "both after one": (
        ("0F0 0F1 0I0 0B0 0B1", "1F0 1B0 1F1 1B1"),
        "row 1, column 4: 0B0 repeats 0I0 in column 3; a B does the work of an I and a W",
    ),
    "one after both": (
        ("0F0 0F1 0B0 0B1 0W1", "1F0 1B0 1F1 1B1"),
        "row 1, column 5: 0W1 repeats 0B1 in column 4; a B does the work of an I and a W",
    ),
    "input after both": (
        ("0F0 0F1 0B0 0I0 0B1", "1F0 1B0 1F1 1B1"),
        "row 1, column 4: 0I0 repeats 0B0 in column 3; a B does the work of an I and a W",
    ),
    "transfer": (
        ("0F0 0SEND_F0 0F1 0B0 0B1", "1F0 1B0 1F1 1B1"),
        "row 1, column 2: 0SEND_F0 is a transfer; a schedule has only F, B, I, W, and transfers follow",
    ),
    "no forward": (
        ("0F0 0B0", "1F0 1B0 1F1 1B1"),
        "row 1: 0F1 is missing",
    ),
    "no backward": (
        ("0F0 0F1 0B0 0B1", "1F0 1B0 1F1"),
        "row 2: 1B1 (or 1I1 and 1W1) is missing",
    ),
    "no weights": (
        ("0F0 0F1 0I0 0B1", "1F0 1B0 1F1 1B1"),
        "row 1: 0W0 is missing",
    ),
    "nothing": (
        ("", "1F0 1B0 1F1 1B1"),
        "row 1: 0F0 is missing; 1 more micro-batches of it are incomplete",
    ),
    "circle": (
        ("0F0 0B0 0F1 0B1", "1F1 1F0 1B0 1B1"),
        "row 1, column 2: 0B0 waits for 1B0 (row 2, column 3); "
        "row 2, column 1: 1F1 waits for 0F1 (row 1, column 3): a circle",
    ),
}


@pytest.mark.parametrize(("rows", "message"), MISTAKES.values(), ids=list(MISTAKES))
def test_a_mistake_is_named_with_its_place(rows: tuple[str, ...], message: str) -> None:
    with pytest.raises(ScheduleError) as error:
        check(schedule_of(*rows, num_micro_batches=2))
    assert str(error.value) == message


def test_the_place_is_also_given_in_numbers() -> None:
    with pytest.raises(ScheduleError) as error:
        check(schedule_of("0F0 0F1 0B0 0B1", "1F0 1B0 1B1 1F1", num_micro_batches=2))
    assert (error.value.stage, error.value.position) == (1, 2)


def test_a_stage_that_waits_for_itself_is_a_circle() -> None:
    v = schedule_of("0F0 3F0 3B0 0B0", "2F0 1F0 2B0 1B0", num_virtual_stages=2, num_micro_batches=1, placement="v")
    message = r"^row 2, column 1: 2F0 waits for 1F0 \(row 2, column 2\): a circle$"
    with pytest.raises(ScheduleError, match=message):
        check(v)


def test_a_circle_of_three_names_all_three() -> None:
    schedule = schedule_of("0F0 0F1 0B0 0B1", "1F0 1F1 1B1 1B0", "2F0 2B0 2F1 2B1", num_micro_batches=2)
    check(schedule)
    schedule = schedule_of("0F0 0B0 0F1 0B1", "1F0 1F1 1B0 1B1", "2F1 2B1 2F0 2B0", num_micro_batches=2)
    with pytest.raises(ScheduleError) as error:
        check(schedule)
    assert str(error.value) == (
        "row 1, column 2: 0B0 waits for 1B0 (row 2, column 3); row 2, column 2: 1F1 waits for 0F1 (row 1, column 3): "
        "a circle"
    )


def test_columns_are_those_of_the_file_if_there_is_one() -> None:
    schedule = schedule_of("0F0 0B0 0F0", num_micro_batches=1)
    with pytest.raises(ScheduleError, match="^row 1, column 9: 0F0 stands twice, first in column 4$"):
        check(schedule, columns=[[4, 5, 9]])


def test_every_stage_needs_a_row() -> None:
    schedule = replace(schedule_of("0F0 0B0", num_micro_batches=1), num_stages=2)
    with pytest.raises(ScheduleError, match="^1 rows for 2 stages; every stage needs one row$"):
        check(schedule)


@pytest.mark.parametrize("word", ["num_stages", "num_virtual_stages", "num_micro_batches"])
def test_sizes_begin_at_one(word: str) -> None:
    schedule = schedule_of("0F0 0B0", num_micro_batches=1)
    with pytest.raises(ScheduleError, match=f"^{word} is 0; it must be at least 1$"):
        check(replace(schedule, **{word: 0}))  # type: ignore[arg-type]


def test_a_schedule_for_evaluation_has_only_forwards() -> None:
    schedule = schedule_of("0F0 0F1", "1F0 1F1", num_micro_batches=2)
    check(schedule, forward_only=True)
    with pytest.raises(ScheduleError, match="^row 1: 0B0 .or 0I0 and 0W0. is missing; 1 more"):
        check(schedule)
    with pytest.raises(ScheduleError, match="^row 2, column 3: 1B0 is no forward"):
        check(schedule_of("0F0 0F1", "1F0 1F1 1B0", num_micro_batches=2), forward_only=True)


@given(schedules(), SEEDS, st.sampled_from(("remove", "double", "other stage")))
def test_no_action_may_be_missing_doubled_or_elsewhere(schedule: Schedule, seed: int, edit: str) -> None:
    generator = random.Random(seed)
    rows = [list(row) for row in schedule.actions]
    row = generator.choice(rows)
    position = generator.randrange(len(row))
    if edit == "remove":
        row.pop(position)
    elif edit == "double":
        row.insert(generator.randrange(position + 1, len(row) + 1), row[position])
    else:
        virtual_stage, kind, micro_batch = row[position]
        row[position] = Action((virtual_stage + 1) % (schedule.depth + 1), kind, micro_batch)
    with pytest.raises(ScheduleError, match=f"^row {rows.index(row) + 1}"):
        check(replace(schedule, actions=tuple(map(tuple, rows))))
