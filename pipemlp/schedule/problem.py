"""What the searches of zb-auto work on: the costs of one case in flat tables, and orders as lists of numbers.

A slot is (kind x depth + virtual stage) x micro-batches + micro-batch, with these kinds:

    FORWARD    F
    BACKWARD   I, or B if the backward is whole
    WEIGHT     W, absent from an order if the backward is whole
"""

from dataclasses import dataclass

from pipemlp.schedule.action import Action, Kind
from pipemlp.schedule.costs import Costs
from pipemlp.schedule.placement import Placement, stage_of, virtual_stages_of
from pipemlp.schedule.schedule import Schedule

FORWARD, BACKWARD, WEIGHT = range(3)


@dataclass(frozen=True)
class Problem:
    """Sizes, seconds (overhead included), hops after an action, and bytes, by virtual stage.

    Args:
        stages: the stage of every virtual stage.
        held: the virtual stages of every stage, in rising order.
        forward, inputs, weights, whole: seconds of F, I, W and B.
        hop_up, hop_down: seconds until the result of an F, and of an I or B, can be used.
        kept, pending: bytes as in `Costs`.
        cap: bytes by stage, transfers aside.
    """

    num_stages: int
    num_virtual_stages: int
    num_micro_batches: int
    placement: Placement
    stages: tuple[int, ...]
    held: tuple[tuple[int, ...], ...]
    forward: tuple[float, ...]
    inputs: tuple[float, ...]
    weights: tuple[float, ...]
    whole: tuple[float, ...]
    hop_up: tuple[float, ...]
    hop_down: tuple[float, ...]
    kept: tuple[float, ...]
    pending: tuple[float, ...]
    cap: tuple[float, ...]

    @property
    def depth(self) -> int:
        """Virtual stages in all."""
        return len(self.stages)

    @property
    def num_actions(self) -> int:
        """Actions of a step if all backwards are split."""
        return 3 * self.depth * self.num_micro_batches


@dataclass(frozen=True)
class Order:
    """The slots of every stage in order, which (virtual stage, micro-batch) have whole backwards, and the makespan."""

    rows: tuple[tuple[int, ...], ...]
    whole: frozenset[tuple[int, int]]
    makespan: float


def make_problem(
    num_stages: int,
    num_micro_batches: int,
    num_virtual_stages: int,
    placement: Placement,
    costs: Costs,
    cap: tuple[float, ...],
) -> Problem:
    """The tables of one case."""
    depth, overhead = num_stages * num_virtual_stages, costs.overhead
    stages = tuple(stage_of(v, num_stages, placement) for v in range(depth))
    hops = tuple(hop if stages[cut] != stages[cut + 1] else 0.0 for cut, hop in enumerate(costs.hop))
    return Problem(
        num_stages=num_stages,
        num_virtual_stages=num_virtual_stages,
        num_micro_batches=num_micro_batches,
        placement=placement,
        stages=stages,
        held=tuple(virtual_stages_of(stage, num_stages, num_virtual_stages, placement) for stage in range(num_stages)),
        forward=tuple(seconds + overhead for seconds in costs.forward),
        inputs=tuple(seconds + overhead for seconds in costs.input_gradient),
        weights=tuple(seconds + overhead for seconds in costs.weight_gradient),
        whole=tuple(i + w + overhead for i, w in zip(costs.input_gradient, costs.weight_gradient, strict=True)),
        hop_up=(*hops, 0.0),
        hop_down=(0.0, *hops),
        kept=costs.kept_bytes,
        pending=costs.pending_bytes,
        cap=cap,
    )


def to_schedule(problem: Problem, order: Order, name: str) -> Schedule:
    """The order as a schedule."""
    rows = tuple(tuple(_action(problem, slot, order) for slot in row) for row in order.rows)
    return Schedule(
        name, problem.num_stages, problem.num_virtual_stages, problem.num_micro_batches, problem.placement, rows
    )


def _action(problem: Problem, slot: int, order: Order) -> Action:
    place, micro_batch = divmod(slot, problem.num_micro_batches)
    kind, virtual_stage = divmod(place, problem.depth)
    kinds: tuple[Kind, ...] = ("F", "B" if (virtual_stage, micro_batch) in order.whole else "I", "W")
    return Action(virtual_stage, kinds[kind], micro_batch)


def to_order(schedule: Schedule, makespan: float) -> Order:
    """A schedule that takes `makespan` seconds as an order."""
    kinds = {"F": FORWARD, "I": BACKWARD, "B": BACKWARD, "W": WEIGHT}
    rows = tuple(
        tuple((kinds[kind] * schedule.depth + v) * schedule.num_micro_batches + m for v, kind, m in row)
        for row in schedule.actions
    )
    whole = frozenset((v, m) for row in schedule.actions for v, kind, m in row if kind == "B")
    return Order(rows, whole, makespan)
