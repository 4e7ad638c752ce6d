"""The CSV of torch.distributed.pipelining: files of its own classes come in, ours go out and come back."""

import csv
import io
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from random_schedules import schedules
from torch.distributed.pipelining import schedules as torch_schedules

from pipemlp.schedule.action import Action
from pipemlp.schedule.costs import uniform_costs
from pipemlp.schedule.errors import ScheduleError
from pipemlp.schedule.one_f_one_b import one_f_one_b
from pipemlp.schedule.placement import Placement
from pipemlp.schedule.schedule import Schedule
from pipemlp.schedule.simulate import simulate
from pipemlp.schedule.torch_csv import read_csv, write_csv


def torch_order(
    class_name: str, num_stages: int, num_virtual_stages: int, num_micro_batches: int
) -> dict[int, list[Any]]:
    """What each rank does by torch's own class, which needs no more of its stages than their numbers."""
    stages = [
        SimpleNamespace(
            num_stages=num_stages * num_virtual_stages, group_size=num_stages, group_rank=0, submod=None, stage_index=0
        )
        for _ in range(num_virtual_stages)
    ]
    single = class_name in ("Schedule1F1B", "ScheduleGPipe")
    schedule = getattr(torch_schedules, class_name)(stages[0] if single else stages, num_micro_batches)
    order = schedule.pipeline_order
    last = order[num_stages - 1]
    if class_name == "Schedule1F1B" and next(filter(None, last)).microbatch_index == 1:
        order[num_stages - 1] = [shifted(action) for action in last]
    return order  # type: ignore[no-any-return]


def shifted(action: Any) -> Any:
    """The last rank of torch 2.13's 1F1B counts its forwards from 1, though it runs them from 0."""
    if action is None or action.computation_type is not torch_schedules.FORWARD:
        return action
    return action._replace(microbatch_index=action.microbatch_index - 1)


def torch_file(class_name: str, num_stages: int, num_virtual_stages: int, num_micro_batches: int) -> str:
    """As `_dump_csv` writes it."""
    file = io.StringIO(newline="")
    csv.writer(file).writerows(torch_order(class_name, num_stages, num_virtual_stages, num_micro_batches).values())
    return file.getvalue()


FILES: list[tuple[str, int, int, int, Placement, str]] = [
    ("ScheduleGPipe", 4, 1, 8, "loop", "FB"),
    ("ScheduleGPipe", 1, 1, 2, "loop", "FB"),
    ("Schedule1F1B", 4, 1, 8, "loop", "FB"),
    ("Schedule1F1B", 2, 1, 2, "loop", "FB"),
    ("ScheduleLoopedBFS", 4, 2, 8, "loop", "FB"),
    ("ScheduleLoopedBFS", 2, 3, 5, "loop", "FB"),
    ("ScheduleInterleaved1F1B", 4, 2, 8, "loop", "FB"),
    ("ScheduleInterleaved1F1B", 3, 3, 2, "loop", "FB"),
    ("ScheduleInterleavedZeroBubble", 4, 2, 8, "loop", "FBIW"),
    ("ScheduleInterleavedZeroBubble", 2, 3, 6, "loop", "FBIW"),
    ("ScheduleZBVZeroBubble", 4, 2, 8, "v", "FIW"),
    ("ScheduleZBVZeroBubble", 4, 2, 3, "v", "FIW"),
    ("ScheduleDualPipeV", 4, 2, 8, "v", "FBIW"),
    ("ScheduleDualPipeV", 2, 2, 7, "v", "FBIW"),
]


@pytest.mark.parametrize(
    ("class_name", "num_stages", "num_virtual_stages", "num_micro_batches", "placement", "kinds"), FILES
)
def test_files_of_torch_are_read(
    class_name: str, num_stages: int, num_virtual_stages: int, num_micro_batches: int, placement: Placement, kinds: str
) -> None:
    sizes = (num_stages, num_virtual_stages, num_micro_batches)
    schedule = read_csv(torch_file(class_name, *sizes), class_name)
    assert (schedule.num_stages, schedule.num_virtual_stages, schedule.num_micro_batches) == sizes
    assert (schedule.name, schedule.placement) == (class_name, placement)
    assert {action.kind for row in schedule.actions for action in row} <= set(kinds)
    assert simulate(schedule, uniform_costs(num_stages, num_virtual_stages)).makespan > 0.0
    expected = [
        [str(leaf) for action in row for leaf in leaves(action)] for row in torch_order(class_name, *sizes).values()
    ]
    assert [list(map(str, row)) for row in schedule.actions] == expected


def leaves(action: Any) -> list[Any]:
    """The computations of a torch action, of which an overlapped one has two."""
    if action is None or action.computation_type is torch_schedules.REDUCE_GRAD:
        return []
    return list(action.sub_actions or [action])


def test_overlapped_pairs_are_there_and_run_in_their_order() -> None:
    text = torch_file("ScheduleDualPipeV", 2, 2, 7)
    assert "(0F4;3B2)OVERLAP_F_B" in text
    row = read_csv(text, "dualpipev").actions[0]
    assert row[row.index(Action(0, "F", 4)) + 1] == Action(3, "B", 2)


def test_one_f_one_b_of_torch_is_ours() -> None:
    schedule = read_csv(torch_file("Schedule1F1B", 4, 1, 8), "1f1b")
    assert schedule == one_f_one_b(4, 8)


@given(schedules(num_micro_batches=4))
def test_what_is_written_is_read_back(schedule: Schedule) -> None:
    """A single virtual stage per stage, or a single stage, is in the same place by either placement."""
    again = read_csv(write_csv(schedule), schedule.name)
    assert again.actions == schedule.actions
    if schedule.num_stages > 1 and schedule.num_virtual_stages > 1:
        assert again == schedule


def test_torch_reads_what_we_write() -> None:
    schedule = read_csv(torch_file("ScheduleDualPipeV", 2, 2, 7), "dualpipev")
    for row, actions in zip(csv.reader(io.StringIO(write_csv(schedule))), schedule.actions, strict=True):
        assert [str(torch_schedules._Action.from_str(cell)) for cell in row] == list(map(str, actions))


def test_spaces_idle_cells_and_line_ends_do_not_matter() -> None:
    schedule = read_csv("\ufeff 0F0 ,,0B0,\r\n, 1F0,1B0 ,\r\n\r\n", "written")
    assert write_csv(schedule) == "0F0,0B0\n1F0,1B0\n"


MISTAKES = {
    "empty": (" \n", "the file has no rows; it needs one for every stage"),
    "no actions": (",,\n,,\n0F0", "most rows have no actions; every stage needs its own"),
    "no action": ("0F0,,0X0\n", "row 1, column 3: '0X0' is not an action such as 2F0; kinds are F, B, I, W"),
    "in a pair": (
        "0F0,(0F1;0Q0)OVERLAP_F_B",
        "row 1, column 2: '0Q0' is not an action such as 2F0; kinds are F, B, I, W",
    ),
    "another pair": (
        "(0F0;0B0)TOGETHER",
        "row 1, column 1: '(0F0;0B0)TOGETHER' is not an action such as 2F0; kinds are F, B, I, W",
    ),
    "with transfers": (
        "0F0,0SEND_F0,0B0\n1F0,1B0",
        "row 1, column 2: 0SEND_F0 is a transfer; write the file with the compute-only format",
    ),
    "doubled": ("0F0,,0F0,0B0\n,1F0,1B0", "row 1, column 3: 0F0 stands twice, first in column 1"),
    "missing": ("0F0,0F1,0B0,0B1\n,1F0,1B0,1F1", "row 2: 1B1 (or 1I1 and 1W1) is missing"),
    "odd micro-batch": (
        "0F0,0F7,0B0,0B1\n,1F0,1B0,1F1,1B1",
        "row 1, column 2: 0F7 is for micro-batch 7; there are only 0..1",
    ),
    "odd virtual stage": (
        "0F0,0F1,0B0,0B1\n2F0,2F1,2B0,2B1\n,1F0,1B0,1F1,1B1",
        "row 2, column 1: 2F0 may not stand in this row; virtual stage 2 belongs in row 3",
    ),
    "virtual stage out of range": (
        "0F0,,0B0\n,1F0,1B0\n5F0,,5B0",
        "row 3, column 1: 5F0 is for virtual stage 5; there are only 0..2",
    ),
    "another placement": (
        "0F0,1F0,1B0,0B0\n,2F0,3F0,3B0,2B0",
        "row 1, column 2: 1F0 may not stand in this row; virtual stage 1 belongs in row 2",
    ),
    "circle": (
        "0F0,,0B0,,0F1,0B1\n,1F1,1F0,1B0,1B1",
        "row 1, column 3: 0B0 waits for 1B0 (row 2, column 4); row 2, column 2: 1F1 waits for 0F1 (row 1, column 5): "
        "a circle",
    ),
}


@pytest.mark.parametrize(("text", "message"), MISTAKES.values(), ids=list(MISTAKES))
def test_a_mistake_is_named_with_row_and_column(text: str, message: str) -> None:
    with pytest.raises(ScheduleError) as error:
        read_csv(text, "written")
    assert str(error.value) == message
