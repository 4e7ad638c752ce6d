"""zb-auto: an order made for the true, unequal costs of a case, within a memory cap.

    named schedules ──────────────┐
    list scheduling, many rules ──┼──► the best few ──► local search ──► whole backwards ──► the best that fits
    one micro-batch at a time ────┘

Three stages, four micro-batches, a cap of three micro-batches; F takes 1, 1 and 2 columns on the three stages, I takes
2, 1 and 2, W takes 1, 3 and 1 (time runs to the right):

    stage 0   F0 F1 F2 .. .. .. .. I0 I0 W0 F3 I1 I1 W1 .. .. I2 I2 W2 .. I3 I3 W3
    stage 1      F0 F1 F2 .. .. I0 W0 W0 W0 I1 F3 W1 W1 W1 I2 W2 W2 W2 I3 W3 W3 W3
    stage 2         F0 F0 I0 I0 F1 F1 I1 I1 F2 F2 I2 I2 W0 F3 F3 I3 I3 W1 W2 W3

1F1B takes 29 columns and ZB-H1 26, which is the best that a named schedule does; nothing takes less than 22.

Everything is deterministic. How far an order is from `lower_bound` says what may be left.
Source: list scheduling for a memory cap, Zero Bubble, arXiv 2401.10241, section 3; the rules and the search are ours.
"""

from collections.abc import Sequence
from dataclasses import replace
from heapq import nsmallest
from math import inf

from pipemlp.schedule.alternating import check_sizes
from pipemlp.schedule.bounds import lower_bound, one_at_a_time
from pipemlp.schedule.costs import Costs
from pipemlp.schedule.fusing import fuse
from pipemlp.schedule.gpipe import gpipe
from pipemlp.schedule.greedy import Rule, list_schedule
from pipemlp.schedule.interleaved import interleaved_one_f_one_b
from pipemlp.schedule.interleaved_zb import interleaved_zb
from pipemlp.schedule.local_search import improve
from pipemlp.schedule.one_f_one_b import one_f_one_b
from pipemlp.schedule.placement import Placement
from pipemlp.schedule.problem import Order, Problem, make_problem, to_order, to_schedule
from pipemlp.schedule.schedule import Schedule
from pipemlp.schedule.simulate import check_costs, simulate
from pipemlp.schedule.simulation import Simulation
from pipemlp.schedule.zb_h1 import zb_h1
from pipemlp.schedule.zb_h2 import zb_h2
from pipemlp.schedule.zb_v import zb_v

RULES: tuple[Rule, ...] = (
    Rule("path", 0.15),
    Rule("forward", 0.6, reach=1),
    Rule("path", 0.15, reach=1.25),
    Rule("backward", 0.45, reach=0.6),
    Rule("forward", 0.3, reach=1),
    Rule("path", 0.3, reach=1.5),
    Rule("backward", 0.3),
    Rule("forward", 0.3, reach=1.5),
    Rule("forward", 0.15, reach=0.6),
    Rule("forward", 0.9, reach=1),
    Rule("path", 0.0, reach=1.5),
    Rule("forward", 0.0, reach=2),
    Rule("forward", 0.45, reach=1),
)
"""In the order in which they help most, each given those before it, over random cases."""
WHOLE_RULES = (Rule("forward", 0.0, reach=1, split=False), Rule("forward", 0.0, reach=2, split=False))
"""Where every action has an overhead, splitting may not pay."""

NUM_STARTS = 3
"""How many orders the local search starts from, besides the best named one."""
MOVES = 80
"""How many moves it makes from each, at the most."""
WORK = 150_000
"""Actions that the rules together, and the moves from one start, may look at: what keeps large cases quick."""
LEAST_RULES = 3
"""How many rules are tried however large the case."""
ATTEMPTS = 8
"""How often the caps are tightened to leave room for transfers."""
CLOSE = 1e-9
"""A share of a cap that is rounding."""


def zb_auto(
    num_stages: int,
    num_micro_batches: int,
    num_virtual_stages: int,
    costs: Costs,
    memory_cap: float | Sequence[float] | None = None,
    *,
    placement: Placement | None = None,
    named_candidates: bool = True,
) -> Schedule:
    """The fastest order found that holds the cap.

    Args:
        num_stages, num_micro_batches, num_virtual_stages: sizes.
        costs: of the virtual stages.
        memory_cap: bytes that a stage may hold, as `Simulation.peak_bytes` counts them; one for all, or one each.
        placement: the better one, if not given.
        named_candidates: whether the named schedules of these sizes take part. The result is then never slower than
            those of them that hold the cap; if a placement is given, than those of that placement.

    Raises:
        ValueError: if a size is below 1, the costs are for other sizes, or no order holds the cap: it says the
            smallest cap that one does.
    """
    check_sizes(num_stages, num_micro_batches, num_virtual_stages)
    check_costs(costs, num_stages * num_virtual_stages)
    sizes = num_stages, num_micro_batches, num_virtual_stages
    caps = _caps(num_stages, memory_cap)
    placements: tuple[Placement, ...] = ("loop",) if num_virtual_stages == 1 else ("v", "loop")
    one_by_one = [simulate(one_at_a_time(*sizes, each), costs) for each in ((placement,) if placement else placements)]
    _check_caps(caps, one_by_one)
    found = [_best_of(slowest, costs, caps, named_candidates) for slowest in one_by_one if _fits(slowest, caps)]
    return replace(min(found, key=lambda each: each.makespan).schedule, name="zb-auto")


def _best_of(slowest: Simulation, costs: Costs, caps: tuple[float, ...], named_candidates: bool) -> Simulation:
    """The fastest order found with the placement of `slowest`, which holds the caps."""
    schedule, placement = slowest.schedule, slowest.schedule.placement
    sizes = schedule.num_stages, schedule.num_micro_batches, schedule.num_virtual_stages
    known = [simulate(each, costs) for each in _named(*sizes, placement)] if named_candidates else []
    fitting = sorted((each for each in known if _fits(each, caps)), key=lambda each: each.makespan)
    starts = [to_order(each.schedule, each.makespan) for each in fitting[:1]]
    found = _search(make_problem(*sizes, placement, costs, caps), costs, caps, starts)
    best = min([*fitting[:1], *found, slowest], key=lambda each: each.makespan)
    return replace(best, schedule=replace(best.schedule, placement=placement))


def _caps(num_stages: int, memory_cap: float | Sequence[float] | None) -> tuple[float, ...]:
    if memory_cap is None:
        return (inf,) * num_stages
    if isinstance(memory_cap, Sequence):
        if len(memory_cap) != num_stages:
            raise ValueError(f"{len(memory_cap)} memory caps for {num_stages} stages; give one for all, or one each")
        return tuple(memory_cap)
    return (memory_cap,) * num_stages


def _check_caps(caps: Sequence[float], one_by_one: Sequence[Simulation]) -> None:
    """Refuse caps under which not even one micro-batch at a time can run, with any of the placements."""
    if any(_fits(each, caps) for each in one_by_one):
        return
    needed = min((each.peak_bytes for each in one_by_one), key=max)
    short = next(stage for stage, cap in enumerate(caps) if needed[stage] > cap * (1 + CLOSE))
    if len(set(caps)) == 1:
        smallest = f"the smallest that one does is {max(needed):.12g}"
    else:
        smallest = "the smallest that one does are " + ", ".join(f"{size:.12g}" for size in needed)
    raise ValueError(f"no order holds a memory cap of {caps[short]:.12g} on stage {short}; {smallest}")


def _named(num_stages: int, num_micro_batches: int, num_virtual_stages: int, placement: Placement) -> list[Schedule]:
    """The named schedules of the same placement."""
    sizes = num_stages, num_micro_batches
    if num_virtual_stages == 1:
        return [one_f_one_b(*sizes), zb_h1(*sizes), zb_h2(*sizes), gpipe(*sizes)]
    if placement == "loop":
        return [interleaved_one_f_one_b(*sizes, num_virtual_stages), interleaved_zb(*sizes, num_virtual_stages)]
    return [zb_v(*sizes)] if num_virtual_stages == 2 else []


def _fits(simulation: Simulation, caps: Sequence[float]) -> bool:
    return all(peak <= cap * (1 + CLOSE) for peak, cap in zip(simulation.peak_bytes, caps, strict=True))


def _search(problem: Problem, costs: Costs, caps: Sequence[float], starts: list[Order]) -> list[Simulation]:
    """The fastest order found that holds the caps, transfers included, if any does.

    The searches count no transfers, and a tensor between two virtual stages of one stage twice. Where transfers lift
    the best order above a cap, the next search may only use what that order used, less what it had too much.
    """
    least = [sum(problem.kept[v] for v in held) for held in problem.held]
    problem = replace(problem, cap=tuple(map(max, caps, least)))
    without_transfers = replace(costs, hop_bytes=(0.0,) * len(costs.hop_bytes), shared_bytes=())
    for _ in range(ATTEMPTS):
        orders = sorted(_orders(problem, costs, starts), key=lambda order: order.makespan)
        simulations = [simulate(to_schedule(problem, order, "zb-auto"), costs) for order in orders]
        fitting = [simulation for simulation in simulations if _fits(simulation, caps)]
        if fitting:
            return fitting[:1]
        used = simulate(simulations[0].schedule, without_transfers).peak_bytes
        excess = [max(0.0, peak - cap) for peak, cap in zip(simulations[0].peak_bytes, caps, strict=True)]
        tighter = [
            max(bytes_needed, bytes_used - too_much) if too_much > 0.0 else cap
            for bytes_needed, bytes_used, too_much, cap in zip(least, used, excess, problem.cap, strict=True)
        ]
        if tuple(tighter) == problem.cap:
            break
        problem, starts = replace(problem, cap=tuple(tighter)), []
    return []


def _orders(problem: Problem, costs: Costs, starts: list[Order]) -> list[Order]:
    """What the rules make, and the best of it after local search; with an overhead per action, less split."""
    rules = RULES if costs.overhead == 0.0 else WHOLE_RULES + RULES
    rules = rules[: max(LEAST_RULES, WORK // problem.num_actions)]
    listed = {order.rows: order for order in (list_schedule(problem, rule) for rule in rules)}
    starts = [*nsmallest(NUM_STARTS, listed.values(), key=lambda order: order.makespan), *starts]
    num_moves = min(MOVES, WORK // problem.num_actions)
    bound = lower_bound(
        problem.num_stages, problem.num_micro_batches, problem.num_virtual_stages, costs, problem.placement
    )
    improved = [improve(problem, order, num_moves, bound) for order in starts]
    return improved if costs.overhead == 0.0 else [fuse(problem, order) for order in improved]
