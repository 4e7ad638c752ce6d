"""Say who waits for whom when a schedule stands still."""

from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from pipemlp.schedule.action import Action
from pipemlp.schedule.errors import ScheduleError
from pipemlp.schedule.schedule import Schedule

Columns = Sequence[Sequence[int]]
"""In which column of a file each action stands, counted from 1; without one, its place among the actions."""


class Wait(NamedTuple):
    """What a stage waits for: at `where`, its `position`, for a `reason` in words, on the stage `on`."""

    where: str
    position: int
    reason: str
    on: int


def place(stage: int, position: int, columns: Columns | None = None) -> str:
    """Where an action stands, counted from 1 as in a file."""
    return f"row {stage + 1}, column {columns[stage][position] if columns else position + 1}"


def circle(waits: Mapping[int, Wait]) -> ScheduleError:
    """The error for stages of which each waits for the next.

    Args:
        waits: for every stage that is stopped what it waits for. A stage that waits for one that is done waits
            for something that never comes; that ends the chain.
    """
    chain: list[int] = []
    stage = min(waits)
    while stage in waits and stage not in chain:
        chain.append(stage)
        stage = waits[stage].on
    if stage in waits:
        chain = chain[chain.index(stage) :]
        close = ": a circle"
    else:
        close = f"; row {stage + 1} has ended"
    links = [f"{waits[stage].where}: {waits[stage].reason}" for stage in chain]
    return ScheduleError("; ".join(links) + close, stage=chain[0], position=waits[chain[0]].position)


def input_of(schedule: Schedule, action: Action) -> Action | None:
    """The kind of action of the neighbouring virtual stage that makes the input of a forward or a backward.

    The answer for a backward is a `B`, also where the neighbour splits it and an `I` makes the input.
    """
    virtual_stage, kind, micro_batch = action
    if kind == "F" and virtual_stage > 0:
        return Action(virtual_stage - 1, "F", micro_batch)
    if kind in ("B", "I") and virtual_stage < schedule.depth - 1:
        return Action(virtual_stage + 1, "B", micro_batch)
    return None


def waits_for_input(schedule: Schedule, done: Iterable[int], columns: Columns | None = None) -> dict[int, Wait]:
    """For every stage with actions left what the next one waits for.

    Args:
        schedule: of legal rows.
        done: by stage the number of its actions that are done.
        columns: where they stand in a file, if they come from one.
    """
    waits = {}
    for stage, position in enumerate(done):
        row = schedule.actions[stage]
        if position == len(row):
            continue
        source = input_of(schedule, row[position])
        assert source is not None  # what needs no input does not wait
        other = schedule.stage_of(source.virtual_stage)
        makers = (source, source._replace(kind="I"))
        found = next((index for index, action in enumerate(schedule.actions[other]) if action in makers), None)
        where = "which no row has" if found is None else place(other, found, columns)
        name = source if found is None else schedule.actions[other][found]
        waits[stage] = Wait(
            place(stage, position, columns), position, f"{row[position]} waits for {name} ({where})", other
        )
    return waits
