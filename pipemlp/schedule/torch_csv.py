"""Read and write torch.distributed.pipelining's compute-only CSV: one row per stage, one cell per action.

    0F0,0F1,,,0B0,,0B1                  an empty cell is idle time, which follows from the order
    ,1F0,1B0,(1F1;1B1)OVERLAP_F_B       an overlapped pair runs one after the other here

Format: `_dump_csv(format="compute_only")` and `_Action.__repr__` in torch/distributed/pipelining/schedules.py (2.13).
"""

import re
from collections.abc import Iterable, Iterator
from statistics import mode
from typing import NamedTuple

from pipemlp.schedule.action import COMPUTE_KINDS, Action, parse_action
from pipemlp.schedule.errors import ScheduleError
from pipemlp.schedule.placement import Placement, stage_of
from pipemlp.schedule.schedule import Schedule
from pipemlp.schedule.validate import check
from pipemlp.schedule.waiting import place

_OVERLAPPED = re.compile(r"\((.*)\)OVERLAP_F_B")
_SKIPPED = re.compile(r"\d+REDUCE_GRAD\d*")  # the executor reduces gradients by itself


class Cell(NamedTuple):
    """An action and the column in which it stands, counted from 1."""

    action: Action
    column: int


def read_csv(text: str, name: str) -> Schedule:
    """The schedule of a compute-only CSV, checked.

    The sizes are those that most rows agree on, so that an odd cell is named and not taken for another size. With
    one virtual stage per stage, or one stage, the placement is `loop`.

    Args:
        text: the file's content.
        name: of the schedule that comes back.

    Raises:
        ScheduleError: naming row and column of a cell that is no action, a placement that is neither `loop` nor
            `v`, or what `check` refuses.
    """
    lines = text.removeprefix("\ufeff").rstrip().splitlines()
    if not lines:
        raise ScheduleError("the file has no rows; it needs one for every stage")
    rows = [list(_cells(stage, line)) for stage, line in enumerate(lines)]
    num_virtual_stages = mode(len({cell.action.virtual_stage for cell in row}) for row in rows)
    if num_virtual_stages == 0:
        raise ScheduleError("most rows have no actions; every stage needs its own")
    schedule = Schedule(
        name=name,
        num_stages=len(rows),
        num_virtual_stages=num_virtual_stages,
        num_micro_batches=_num_micro_batches(rows),
        placement=_placement(rows, num_virtual_stages),
        actions=tuple(tuple(cell.action for cell in row) for row in rows),
    )
    check(schedule, columns=[[cell.column for cell in row] for row in rows])
    return schedule


def write_csv(schedule: Schedule) -> str:
    """The compute-only CSV of a schedule; `read_csv` gives it back."""
    return "".join(",".join(map(str, row)) + "\n" for row in schedule.actions)


def _cells(stage: int, line: str) -> Iterator[Cell]:
    """The actions of a row in order."""
    for position, cell in enumerate(line.split(",")):
        overlapped = _OVERLAPPED.fullmatch(cell.strip())
        for part in overlapped[1].split(";") if overlapped else [cell]:
            part = part.strip()
            if not part or _SKIPPED.fullmatch(part):
                continue
            try:
                action = parse_action(part)
            except ValueError as error:
                raise ScheduleError(f"{place(stage, position)}: {error}", stage=stage, position=position) from None
            if action.kind not in COMPUTE_KINDS:
                reason = f"{action} is a transfer; write the file with the compute-only format"
                raise ScheduleError(f"{place(stage, position)}: {reason}", stage=stage, position=position)
            yield Cell(action, position + 1)


def _num_micro_batches(rows: Iterable[Iterable[Cell]]) -> int:
    """The number of forwards that most virtual stages have."""
    forwards: dict[int, set[int]] = {}
    for row in rows:
        for (virtual_stage, kind, micro_batch), _ in row:
            forwards.setdefault(virtual_stage, set()).update({micro_batch} if kind == "F" else ())
    return max(1, mode(map(len, forwards.values())))


def _placement(rows: list[list[Cell]], num_virtual_stages: int) -> Placement:
    """Whichever of `loop` and `v` fits; the first cell that is against the better one is named if neither does."""
    num_stages = len(rows)
    against: dict[Placement, list[tuple[int, int]]] = {"loop": [], "v": []}
    for placement, odd in against.items():
        for stage, row in enumerate(rows):
            for position, cell in enumerate(row):
                virtual_stage = cell.action.virtual_stage
                inside = virtual_stage < num_stages * num_virtual_stages  # else `check` names it
                if inside and stage_of(virtual_stage, num_stages, placement) != stage:
                    odd.append((stage, position))
    best: Placement = "loop" if len(against["loop"]) <= len(against["v"]) else "v"
    if against[best]:
        stage, position = against[best][0]
        action, column = rows[stage][position]
        homes = {stage_of(action.virtual_stage, num_stages, placement) + 1 for placement in against}
        raise ScheduleError(
            f"{place(stage, column - 1)}: {action} may not stand in this row; virtual stage {action.virtual_stage} "
            f"belongs in row {' or '.join(map(str, sorted(homes)))}",
            stage=stage,
            position=position,
        )
    return best
