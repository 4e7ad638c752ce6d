"""Join an I and the W right behind it to a whole B where that saves an action's overhead and makes no step longer.

    I3 W1 I4 W2   ->   I3 W3 I4 W1   ->   B3 I4 W1        the gradient leaves at the end of B3 instead of I3

First a W right behind an I changes places with the one of that I, if it still waits; they take equally long.
"""

from collections.abc import Collection
from itertools import pairwise

from pipemlp.schedule.problem import BACKWARD, WEIGHT, Order, Problem
from pipemlp.schedule.timetable import NOBODY, make_links, timetable


def fuse(problem: Problem, order: Order) -> Order:
    """Stage by stage, join all pairs if the step gets no longer by that, or else those that alone delay nobody."""
    rows = tuple(_with_own_weights(problem, order, row) for row in order.rows)
    order = Order(rows, order.whole, order.makespan)
    for row_index in range(problem.num_stages):
        row = order.rows[row_index]
        pairs = [slot for slot, following in pairwise(row) if _is_pair(problem, slot, following)]
        joined = (_joined(problem, order, chosen) for chosen in (pairs, _harmless(problem, order, pairs)) if chosen)
        order = next((each for each in joined if each.makespan <= order.makespan), order)
    return order


def _with_own_weights(problem: Problem, order: Order, row: tuple[int, ...]) -> tuple[int, ...]:
    num, span = problem.num_micro_batches, problem.depth * problem.num_micro_batches
    waiting: dict[int, list[int]] = {v: [] for v in range(problem.depth)}
    result: list[int] = []
    for slot in row:
        kind, virtual_stage = slot // span, slot // num % problem.depth
        if kind == WEIGHT:
            weights, own = waiting[virtual_stage], result[-1] + span
            slot = weights.pop(weights.index(own) if own in weights else 0)
        elif kind == BACKWARD and _pair_of(problem, slot) not in order.whole:
            waiting[virtual_stage].append(slot + span)
        result.append(slot)
    return tuple(result)


def _pair_of(problem: Problem, slot: int) -> tuple[int, int]:
    """The virtual stage and the micro-batch of a slot."""
    return slot // problem.num_micro_batches % problem.depth, slot % problem.num_micro_batches


def _is_pair(problem: Problem, slot: int, following: int) -> bool:
    span = problem.depth * problem.num_micro_batches
    return slot // span == BACKWARD and following == slot + span


def _harmless(problem: Problem, order: Order, pairs: Collection[int]) -> list[int]:
    """Those whose gradient could leave at the end of the W, if all else stayed, without making the step longer."""
    links = make_links(problem, order.whole)
    times = timetable(links, order.rows)
    assert times is not None  # an order that was made or found can run
    found = []
    for slot in pairs:
        virtual_stage, _ = _pair_of(problem, slot)
        user, end = links.user[slot], times.start[slot] + problem.whole[virtual_stage]
        if user == NOBODY or end + links.user_travel[slot] + times.tail[user] <= times.makespan:
            found.append(slot)
    return found


def _joined(problem: Problem, order: Order, pairs: Collection[int]) -> Order:
    """The order with the backwards in these slots whole."""
    span = problem.depth * problem.num_micro_batches
    gone = {slot + span for slot in pairs}
    rows = tuple(tuple(slot for slot in row if slot not in gone) for row in order.rows)
    whole = order.whole | {_pair_of(problem, slot) for slot in pairs}
    times = timetable(make_links(problem, whole), rows)
    assert times is not None  # to wait longer for a result makes no circle
    return Order(rows, whole, times.makespan)
