"""A schedule as integers, so that millions of actions can be walked quickly and costs are looked up in tables.

An action's code is `kind * depth + virtual_stage`, its micro-batch is kept beside it:

    code    0 .. depth - 1   depth .. 2 depth - 1   2 depth .. 3 depth - 1   3 depth .. 4 depth - 1
    kind    F                B                      I                        W
"""

from array import array
from collections.abc import Sequence
from dataclasses import dataclass

from pipemlp.schedule.action import COMPUTE_KINDS, Action
from pipemlp.schedule.costs import Costs
from pipemlp.schedule.schedule import Schedule


@dataclass(frozen=True)
class Coded:
    """The codes and the micro-batches of every stage's actions, parallel to `schedule.actions`."""

    codes: tuple["array[int]", ...]
    micro_batches: tuple["array[int]", ...]


def code_of(action: Action, depth: int) -> int:
    """The code of one action of a kind that computes."""
    return COMPUTE_KINDS.index(action.kind) * depth + action.virtual_stage


def encode(schedule: Schedule) -> Coded:
    """The actions of a schedule with legal rows as integers."""
    base = {kind: index * schedule.depth for index, kind in enumerate(COMPUTE_KINDS)}
    return Coded(
        tuple(array("q", [base[kind] + virtual_stage for virtual_stage, kind, _ in row]) for row in schedule.actions),
        tuple(array("q", [action[2] for action in row]) for row in schedule.actions),
    )


def seconds_table(costs: Costs) -> list[float]:
    """Seconds of every action, by code."""
    overhead = costs.overhead
    both = [a + b for a, b in zip(costs.input_gradient, costs.weight_gradient, strict=True)]
    return [own + overhead for own in (*costs.forward, *both, *costs.input_gradient, *costs.weight_gradient)]


def hop_table(schedule: Schedule, per_cut: Sequence[float]) -> list[float]:
    """What follows every action when its result crosses a cut to another stage, by code; zero elsewhere."""
    homes = [schedule.stage_of(virtual_stage) for virtual_stage in range(schedule.depth)]
    crossed = [hop if homes[cut] != homes[cut + 1] else 0.0 for cut, hop in enumerate(per_cut)]
    up, down = [*crossed, 0.0], [0.0, *crossed]
    return [*up, *down, *down, *([0.0] * schedule.depth)]


def bytes_table(costs: Costs) -> list[float]:
    """What a stage holds more (or less) after every action, by code, transfers aside."""
    kept, pending = costs.kept_bytes, costs.pending_bytes
    turned = [after - before for before, after in zip(kept, pending, strict=True)]
    return [*kept, *(-size for size in kept), *turned, *(-size for size in pending)]


def in_flight_table(depth: int) -> list[int]:
    """By how much every action changes the number of micro-batches in flight, by code."""
    return [1] * depth + [-1] * depth + [0] * depth + [-1] * depth
