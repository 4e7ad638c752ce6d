"""Name the first action of a schedule that cannot be, and why.

What has happened to one micro-batch on one virtual stage is a sum, and every kind has one sum it may follow:

    F (1) after nothing     B (2) or I (4) after F: 1     W (8) after F and I: 5     done at F + B: 3 or F + I + W: 13
"""

from dataclasses import dataclass

from pipemlp.schedule.action import COMPUTE_KINDS, Action, Kind
from pipemlp.schedule.clock import clock
from pipemlp.schedule.coding import encode
from pipemlp.schedule.costs import uniform_costs
from pipemlp.schedule.errors import ScheduleError
from pipemlp.schedule.schedule import Schedule
from pipemlp.schedule.waiting import Columns, place

_BIT = {"F": 1, "B": 2, "I": 4, "W": 8}
_AFTER = {"F": 0, "B": 1, "I": 1, "W": 5}
_COMPLETE = {True: (1,), False: (3, 13)}  # by whether there are only forwards
_REPEATS: dict[Kind, tuple[Kind, ...]] = {"B": ("I", "W"), "I": ("B",), "W": ("B",)}


def check(schedule: Schedule, *, forward_only: bool = False, columns: Columns | None = None) -> None:
    """Accept a schedule that computes every action once, on the stage that holds it, in an order that can run.

    Args:
        schedule: what to check; its rows are its stages.
        forward_only: whether it is one of forwards alone, as for evaluation.
        columns: where the actions stand in the file they come from, if they do.

    Raises:
        ScheduleError: naming the first illegal action by row and column (counted from 1), an action that is missing,
            or the stages that wait for each other.
    """
    for word in ("num_stages", "num_virtual_stages", "num_micro_batches"):
        if getattr(schedule, word) < 1:
            raise ScheduleError(f"{word} is {getattr(schedule, word)}; it must be at least 1")
    if len(schedule.actions) != schedule.num_stages:
        raise ScheduleError(f"{len(schedule.actions)} rows for {schedule.num_stages} stages; every stage needs one row")
    for stage in range(schedule.num_stages):
        _Row(schedule, stage, forward_only, columns).check()
    unit_costs = uniform_costs(schedule.num_stages, schedule.num_virtual_stages)
    clock(schedule, encode(schedule), unit_costs, columns)  # raises if it cannot go on


@dataclass(frozen=True)
class _Row:
    """The actions of one stage."""

    schedule: Schedule
    stage: int
    forward_only: bool
    columns: Columns | None

    def check(self) -> None:
        num_micro_batches = self.schedule.num_micro_batches
        after, complete = {"F": 0} if self.forward_only else _AFTER, _COMPLETE[self.forward_only]
        done = {held: bytearray(num_micro_batches) for held in self.schedule.virtual_stages_of(self.stage)}
        for position, (virtual_stage, kind, micro_batch) in enumerate(self.schedule.actions[self.stage]):
            sums = done.get(virtual_stage)
            if sums is None or not 0 <= micro_batch < num_micro_batches or sums[micro_batch] != after.get(kind):
                where = place(self.stage, position, self.columns)
                raise ScheduleError(f"{where}: {self._illegal(position)}", stage=self.stage, position=position)
            sums[micro_batch] += _BIT[kind]
        for held, sums in done.items():
            if sum(map(sums.count, complete)) < num_micro_batches:
                raise ScheduleError(f"row {self.stage + 1}: {_missing(held, sums, complete)}", stage=self.stage)

    def _illegal(self, position: int) -> str:
        """Why the action at `position` may not stand there, given that all before it are legal."""
        schedule = self.schedule
        action = schedule.actions[self.stage][position]
        virtual_stage, kind, micro_batch = action
        if kind not in COMPUTE_KINDS:
            return f"{action} is a transfer; a schedule has only {', '.join(COMPUTE_KINDS)}, and transfers follow"
        if self.forward_only and kind != "F":
            return f"{action} is no forward; a schedule for evaluation has nothing else"
        if not 0 <= virtual_stage < schedule.depth:
            return f"{action} is for virtual stage {virtual_stage}; there are only 0..{schedule.depth - 1}"
        if not 0 <= micro_batch < schedule.num_micro_batches:
            return f"{action} is for micro-batch {micro_batch}; there are only 0..{schedule.num_micro_batches - 1}"
        holder = schedule.stage_of(virtual_stage)
        if holder != self.stage:
            own = ", ".join(map(str, schedule.virtual_stages_of(self.stage)))
            return f"{action} belongs in row {holder + 1}: virtual stage {virtual_stage} is there, here are only {own}"
        return self._out_of_order(position, action)

    def _out_of_order(self, position: int, action: Action) -> str:
        """Why an action of this stage may not follow those before it."""
        column_of: dict[Action, int] = {}  # the first of each action
        for index, other in enumerate(self.schedule.actions[self.stage]):
            column_of.setdefault(other, self.columns[self.stage][index] if self.columns else index + 1)
        earlier = set(self.schedule.actions[self.stage][:position])
        if action in earlier:
            return f"{action} stands twice, first in column {column_of[action]}"
        for kind in _REPEATS.get(action.kind, ()):
            other = action._replace(kind=kind)
            if other in earlier:
                return f"{action} repeats {other} in column {column_of[other]}; a B does the work of an I and a W"
        needed = action._replace(kind="I" if action.kind == "W" else "F")
        if needed in column_of:
            return f"{action} stands before {needed}, which is in column {column_of[needed]}"
        return f"{action} stands without {needed}"


def _missing(virtual_stage: int, sums: bytearray, complete: tuple[int, ...]) -> str:
    """What a virtual stage lacks to be complete, given where each micro-batch stands."""
    incomplete = [micro_batch for micro_batch, total in enumerate(sums) if total not in complete]
    forward, both, inputs, weights = (Action(virtual_stage, kind, incomplete[0]) for kind in COMPUTE_KINDS)
    absent = {0: f"{forward}", 1: f"{both} (or {inputs} and {weights})", 5: f"{weights}"}[sums[incomplete[0]]]
    others = f"; {len(incomplete) - 1} more micro-batches of it are incomplete" if len(incomplete) > 1 else ""
    return f"{absent} is missing{others}"
