"""zb-auto: never slower than the named schedules, faster where costs are uneven, and within the memory cap."""

import random
import statistics
from collections.abc import Iterable
from dataclasses import dataclass, replace

import pytest
from drawings import draw, drawn_rows
from hypothesis import given, settings
from hypothesis import strategies as st
from random_schedules import costs_of

from pipemlp.schedule import zb_auto as module
from pipemlp.schedule.bounds import lower_bound, one_at_a_time
from pipemlp.schedule.costs import Costs, uniform_costs
from pipemlp.schedule.deadlock import check_links
from pipemlp.schedule.fusing import fuse
from pipemlp.schedule.gpipe import gpipe
from pipemlp.schedule.greedy import list_schedule
from pipemlp.schedule.interleaved import interleaved_one_f_one_b
from pipemlp.schedule.interleaved_zb import interleaved_zb
from pipemlp.schedule.local_search import improve
from pipemlp.schedule.lower import lower
from pipemlp.schedule.one_f_one_b import one_f_one_b
from pipemlp.schedule.placement import Placement, virtual_stages_of
from pipemlp.schedule.problem import make_problem, to_order, to_schedule
from pipemlp.schedule.schedule import Schedule
from pipemlp.schedule.simulate import simulate
from pipemlp.schedule.validate import check
from pipemlp.schedule.zb_auto import RULES, WHOLE_RULES, zb_auto
from pipemlp.schedule.zb_h1 import zb_h1
from pipemlp.schedule.zb_h2 import zb_h2
from pipemlp.schedule.zb_v import zb_v

SOME, ALL = range(120), range(1000)
"""Seeds; every other one is uneven."""


@dataclass(frozen=True)
class Case:
    """Sizes, costs, and a memory cap; `is_uneven` of every other seed."""

    num_stages: int
    num_micro_batches: int
    num_virtual_stages: int
    costs: Costs
    cap: float

    @property
    def placement(self) -> Placement:
        return "loop" if self.num_virtual_stages == 1 else "v"

    @property
    def sizes(self) -> tuple[int, int, int]:
        return self.num_stages, self.num_micro_batches, self.num_virtual_stages


def is_uneven(seed: int) -> bool:
    return seed % 2 == 0


def random_case(seed: int, *, balanced: bool = True) -> Case:
    """Seconds and bytes that differ by up to 3x, or by 10 %.

    `balanced`: the stages take equally long in all, as a partition makes them; what is uneven is how that time
    divides into F, I and W and over the virtual stages of a stage. A stage's F takes 1 in the mean, a hop up to 0.2.
    The cap lies between what one micro-batch at a time needs and twice what 1F1B does.
    """
    draw = random.Random(seed)
    num_stages, num_micro_batches, num_virtual_stages = draw.randint(2, 8), draw.randint(2, 16), draw.choice((1, 2))
    depth, spread = num_stages * num_virtual_stages, 3.0 if is_uneven(seed) else 1.1
    seconds, bytes_ = ([[draw.uniform(1, spread) for _ in range(depth)] for _ in range(n)] for n in (3, 2))
    placement: Placement = "loop" if num_virtual_stages == 1 else "v"
    held = [virtual_stages_of(stage, num_stages, num_virtual_stages, placement) for stage in range(num_stages)]
    mean = sum(map(sum, seconds)) / num_stages
    for own in held:
        total = sum(kind[v] for kind in seconds for v in own) if balanced else mean
        for kind in seconds:
            for v in own:
                kind[v] *= 3.0 / total
    kept, pending = (tuple(size / num_virtual_stages for size in sizes) for sizes in bytes_)
    costs = Costs(
        *map(tuple, seconds), tuple(draw.uniform(0, 0.2) for _ in range(depth - 1)), kept, pending, (0.0,) * (depth - 1)
    )
    per_stage = [sum(kept[v] for v in own) for own in held]
    of_1f1b = max(min(num_micro_batches, num_stages - stage) * size for stage, size in enumerate(per_stage))
    cap = draw.uniform(max(per_stage), 2 * of_1f1b)
    return Case(num_stages, num_micro_batches, num_virtual_stages, costs, cap)


def named_like(schedule: Schedule) -> list[Schedule]:
    """The named schedules of the same sizes, of either placement."""
    sizes = schedule.num_stages, schedule.num_micro_batches
    if schedule.num_virtual_stages == 1:
        return [make(*sizes) for make in (gpipe, one_f_one_b, zb_h1, zb_h2)]
    return [*(make(*sizes, 2) for make in (interleaved_one_f_one_b, interleaved_zb)), zb_v(*sizes)]


def best_named(schedule: Schedule, costs: Costs, cap: float) -> float | None:
    """The makespan of the fastest named schedule that holds the cap."""
    simulations = [simulate(each, costs) for each in named_like(schedule)]
    return min((each.makespan for each in simulations if max(each.peak_bytes) <= cap), default=None)


def gains(seeds: Iterable[int], *, balanced: bool = True) -> list[float]:
    """How much longer the best named schedule that holds the cap takes than what the list scheduler finds alone."""
    found = []
    for case in (random_case(seed, balanced=balanced) for seed in seeds if is_uneven(seed)):
        alone = zb_auto(*case.sizes, case.costs, case.cap, named_candidates=False)
        named = best_named(alone, case.costs, case.cap)
        if named is not None:
            found.append(named / simulate(alone, case.costs).makespan - 1)
    return found


def check_never_slower(seed: int) -> None:
    case = random_case(seed)
    schedule = zb_auto(*case.sizes, case.costs, case.cap)
    check(schedule)
    simulation = simulate(schedule, case.costs)
    assert max(simulation.peak_bytes) <= case.cap * (1 + 1e-9)
    named = best_named(schedule, case.costs, case.cap)
    assert named is None or simulation.makespan <= named
    bound = lower_bound(*case.sizes, case.costs, schedule.placement)
    assert simulation.makespan >= bound * (1 - 1e-9)


def test_the_drawing_is_what_happens():
    costs = replace(
        uniform_costs(3), forward=(1.0, 1.0, 2.0), input_gradient=(2.0, 1.0, 2.0), weight_gradient=(1.0, 3.0, 1.0)
    )
    simulation = simulate(zb_auto(3, 4, 1, costs, 3.0), costs)
    assert drawn_rows(module.__doc__) == draw(simulation)
    named = {schedule.name: simulate(schedule, costs) for schedule in named_like(simulation.schedule)}
    fitting = {name: each.makespan for name, each in named.items() if max(each.peak_bytes) <= 3.0}
    assert (simulation.makespan, fitting) == (23.0, {"1f1b": 29.0, "zb-h1": 26.0})
    assert lower_bound(3, 4, 1, costs, "loop") == 22.0


def test_the_list_scheduler_alone_is_faster_where_costs_are_uneven():
    assert statistics.median(gains(SOME)) >= 0.03


@pytest.mark.full
def test_the_list_scheduler_alone_is_faster_on_all_sets():
    assert statistics.median(gains(ALL)) >= 0.03


@pytest.mark.full
def test_the_list_scheduler_alone_is_faster_where_a_slow_stage_bounds_the_step():
    """There the median named schedule is within 5 % of what nothing can beat."""
    assert statistics.median(gains(ALL, balanced=False)) >= 0.025


@pytest.mark.parametrize("start", range(0, SOME.stop, 20))
def test_no_named_schedule_is_faster(start):
    for seed in range(start, start + 10):
        check_never_slower(seed)


@pytest.mark.full
@pytest.mark.parametrize("start", range(0, ALL.stop, 100))
def test_no_named_schedule_is_faster_on_all_sets(start):
    for seed in range(start, start + 100):
        check_never_slower(seed)


@st.composite
def cases(draw: st.DrawFn) -> tuple[tuple[int, int, int], Costs]:
    """Small sizes with any costs, transfers and overhead included."""
    sizes = draw(st.integers(1, 4)), draw(st.integers(1, 6)), draw(st.integers(1, 3))
    return sizes, draw(costs_of(sizes[0] * sizes[2]))


PLACEMENTS = st.sampled_from(("loop", "v"))


@settings(deadline=None)
@given(cases(), PLACEMENTS, st.floats(1.0, 4.0) | st.none(), st.booleans())
def test_any_costs_and_caps_give_a_legal_order(case, placement, slack, named_candidates):
    sizes, costs = case
    needed = simulate(one_at_a_time(*sizes, placement), costs).peak_bytes
    caps = None if slack is None else [slack * size for size in needed]
    schedule = zb_auto(*sizes, costs, caps, placement=placement, named_candidates=named_candidates)
    check(schedule)
    simulation = simulate(schedule, costs)
    assert (schedule.name, schedule.placement) == ("zb-auto", placement)
    if caps is not None:
        assert all(peak <= cap * (1 + 1e-6) for peak, cap in zip(simulation.peak_bytes, caps, strict=True))
    even = simulate(schedule, uniform_costs(sizes[0], sizes[2]))
    check_links(lower(even), schedule)


@settings(deadline=None)
@given(cases(), PLACEMENTS)
def test_nothing_beats_the_lower_bound(case, placement):
    sizes, costs = case
    bound = lower_bound(*sizes, costs, placement)
    found = zb_auto(*sizes, costs, placement=placement)
    for schedule in (found, one_at_a_time(*sizes, placement)):
        assert simulate(schedule, costs).makespan >= bound * (1 - 1e-9)


def test_equal_stages_reach_the_lower_bound():
    for num_stages, num_micro_batches in ((1, 3), (2, 2), (4, 8), (8, 8), (8, 20)):
        sizes = num_stages, num_micro_batches
        for v, named, placement in ((1, zb_h1(*sizes), "loop"), (2, zb_v(*sizes), "v")):
            costs = uniform_costs(num_stages, v)
            bound = lower_bound(*sizes, v, costs, placement)
            assert simulate(named, costs).makespan == simulate(zb_auto(*sizes, v, costs), costs).makespan == bound


@settings(deadline=None)
@given(cases(), PLACEMENTS, st.floats(1.0, 3.0), st.sampled_from(RULES + WHOLE_RULES))
def test_each_step_of_the_search_is_legal_and_keeps_its_promise(case, placement, slack, rule):
    sizes, costs = case
    costs = replace(costs, hop_bytes=(0.0,) * len(costs.hop_bytes), shared_bytes=())
    caps = tuple(slack * size for size in simulate(one_at_a_time(*sizes, placement), costs).peak_bytes)
    problem = make_problem(*sizes, placement, costs, caps)
    listed = list_schedule(problem, rule)
    improved = improve(problem, listed, 10)
    joined = fuse(problem, improved)
    assert joined.makespan <= improved.makespan <= listed.makespan
    for order in (listed, improved, joined):
        schedule = to_schedule(problem, order, "found")
        check(schedule)
        simulation = simulate(schedule, costs)
        assert simulation.makespan == pytest.approx(order.makespan)
        assert all(peak <= cap * (1 + 1e-6) for peak, cap in zip(simulation.peak_bytes, caps, strict=True))
        assert to_order(schedule, order.makespan) == order


def test_a_cap_that_no_order_holds_says_which_one_does():
    costs = replace(uniform_costs(3, 2), kept_bytes=(1.0, 2.0, 3.0, 4.0, 5.0, 6.0), hop_bytes=(0.25,) * 5)
    with pytest.raises(ValueError, match="no order holds a memory cap of 6 on stage 0; the smallest that one does is"):
        zb_auto(3, 4, 2, costs, 6.0)
    needed = simulate(one_at_a_time(3, 4, 2, "v"), costs).peak_bytes
    assert max(needed) >= 7.0
    for factor in (1.0, 1.0 + 1e-12):
        schedule = zb_auto(3, 4, 2, costs, max(needed) * factor)
        assert max(simulate(schedule, costs).peak_bytes) <= max(needed) * (1 + 1e-9)
    with pytest.raises(ValueError, match="the smallest that one does is"):
        zb_auto(3, 4, 2, costs, max(needed) * 0.999)
    with pytest.raises(ValueError, match=r"a memory cap of 2 on stage 1; the smallest that one does are \d"):
        zb_auto(3, 4, 2, costs, (100.0, 2.0, 100.0))
    with pytest.raises(ValueError, match="2 memory caps for 3 stages; give one for all, or one each"):
        zb_auto(3, 4, 2, costs, (100.0, 100.0))


def test_one_micro_batch_at_a_time_fits_the_smallest_cap():
    """Whole backwards make do with what a forward keeps, even where a waiting weight gradient would hold more."""
    costs = replace(uniform_costs(4), pending_bytes=(2.0,) * 4)
    schedule = zb_auto(4, 3, 1, costs, 1.0)
    assert simulate(schedule, costs).peak_bytes == (1.0,) * 4
    assert {action.kind for row in schedule.actions for action in row} == {"F", "B"}


def test_more_memory_never_costs_time():
    case = random_case(6)
    spans = [
        simulate(zb_auto(*case.sizes, case.costs, cap), case.costs).makespan for cap in (case.cap, 2 * case.cap, None)
    ]
    assert spans == sorted(spans, reverse=True)


def test_tight_transfers_still_leave_a_good_order():
    """Tensors on their way count; without room for them the search would end at one micro-batch at a time."""
    costs = replace(uniform_costs(4, 2, hop=0.1), hop_bytes=(0.1,) * 7)
    cap = max(simulate(zb_v(4, 8), costs).peak_bytes) - 0.05
    schedule = zb_auto(4, 8, 2, costs, cap)
    simulation = simulate(schedule, costs)
    assert max(simulation.peak_bytes) <= cap * (1 + 1e-9)
    assert simulation.makespan <= 1.25 * simulate(zb_v(4, 8), costs).makespan


def test_an_overhead_of_every_action_is_saved_where_splitting_does_not_pay():
    costs = replace(uniform_costs(4), overhead=0.2)
    schedule = zb_auto(4, 16, 1, costs)
    best = min(simulate(each, costs).makespan for each in named_like(schedule))
    assert (simulate(schedule, costs).makespan, best) == pytest.approx((59.8, 61.2))
    assert {action.kind for row in schedule.actions for action in row} == {"F", "B", "I", "W"}


def test_the_same_case_gives_the_same_order():
    case = random_case(10)
    first, second = (zb_auto(*case.sizes, case.costs, case.cap) for _ in range(2))
    assert first == second


def test_costs_of_nothing_are_costs():
    nothing = uniform_costs(3, forward=0.0, input_gradient=0.0, weight_gradient=0.0)
    check(zb_auto(3, 4, 1, nothing))


@pytest.mark.full
def test_a_large_case_gets_fewer_rules():
    costs = uniform_costs(16, 2, hop=0.05)
    schedule = zb_auto(16, 128, 2, costs, 16.0)
    check(schedule)
    assert simulate(schedule, costs).makespan <= simulate(zb_v(16, 128), costs).makespan


def test_a_tensor_counted_in_two_places_is_there_once():
    """A cap that one micro-batch at a time just holds, and that is less than its virtual stages keep added up."""
    kept, crossing = (2.0, 130.0, 130.0, 4.0), (2.0, 128.0, 2.0)
    costs = replace(uniform_costs(2, 2), kept_bytes=kept, pending_bytes=kept, hop_bytes=crossing, shared_bytes=crossing)
    needed = simulate(one_at_a_time(2, 3, 2, "v"), costs).peak_bytes
    assert needed[1] < kept[1] + kept[2]
    schedule = zb_auto(2, 3, 2, costs, needed, placement="v")
    check(schedule)
    assert all(peak <= cap * (1 + 1e-9) for peak, cap in zip(simulate(schedule, costs).peak_bytes, needed, strict=True))
