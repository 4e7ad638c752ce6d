"""What no order can beat: a bound on the time of a step, and the memory without which none runs."""

from itertools import accumulate

from pipemlp.schedule.action import Action
from pipemlp.schedule.costs import Costs
from pipemlp.schedule.placement import Placement, stage_of, virtual_stages_of
from pipemlp.schedule.schedule import Schedule
from pipemlp.schedule.simulate import check_costs


def lower_bound(
    num_stages: int, num_micro_batches: int, num_virtual_stages: int, costs: Costs, placement: Placement
) -> float:
    """Seconds that every order of the same placement takes at least, whatever memory it may use.

    The longest of, for every stage: the first input's way there, or the first gradient's if that comes later than all
    forwards can be done; then the stage's load; or, instead of its weight gradients, the last gradient's way on. One
    micro-batch on its way through all is the critical path. With equal stages and no hops, ZB-V reaches the bound.
    """
    depth, overhead = num_stages * num_virtual_stages, costs.overhead
    check_costs(costs, depth)
    stages = [stage_of(v, num_stages, placement) for v in range(depth)]
    hops = [hop if stages[cut] != stages[cut + 1] else 0.0 for cut, hop in enumerate(costs.hop)]
    forwards = [seconds + overhead for seconds in costs.forward]
    inputs = [seconds + overhead for seconds in costs.input_gradient]
    first_input = list(accumulate((f + hop for f, hop in zip(forwards, hops, strict=False)), initial=0.0))
    way_on = list(accumulate((i + hop for i, hop in zip(inputs, hops, strict=False)), initial=0.0))
    turn = first_input[-1] + forwards[-1]  # the first gradient starts on its way back
    bound = turn + way_on[-1] + inputs[-1] + costs.weight_gradient[0]
    for stage in range(num_stages):
        held = virtual_stages_of(stage, num_stages, num_virtual_stages, placement)
        way_back = way_on[-1] + inputs[-1] - way_on[held[-1]] - inputs[held[-1]]  # to the stage's last virtual stage
        after_forwards = first_input[held[0]] + num_micro_batches * sum(forwards[v] for v in held)
        gradients = max(after_forwards, turn + way_back) + num_micro_batches * sum(inputs[v] for v in held)
        weights = num_micro_batches * sum(costs.weight_gradient[v] for v in held)
        bound = max(bound, gradients + max(weights, way_on[held[0]] + costs.weight_gradient[0]))
    return bound


def one_at_a_time(num_stages: int, num_micro_batches: int, num_virtual_stages: int, placement: Placement) -> Schedule:
    """Every micro-batch all the way through before the next: the least memory, and the longest time."""
    rows = []
    for stage in range(num_stages):
        held = virtual_stages_of(stage, num_stages, num_virtual_stages, placement)
        row: list[Action] = []
        for micro_batch in range(num_micro_batches):
            row += [Action(v, "F", micro_batch) for v in held]
            row += [Action(v, "B", micro_batch) for v in reversed(held)]
        rows.append(tuple(row))
    return Schedule("one-at-a-time", num_stages, num_virtual_stages, num_micro_batches, placement, tuple(rows))
