"""The named schedules: their drawings, that they are legal, and the bubbles and the memory that they promise."""

from collections.abc import Callable
from itertools import product
from types import ModuleType, SimpleNamespace

import pytest
from drawings import draw, drawn_rows
from hypothesis import given
from hypothesis import strategies as st
from torch.distributed.pipelining.schedules import (
    ScheduleInterleaved1F1B,
    ScheduleInterleavedZeroBubble,
    ScheduleZBVZeroBubble,
)

from pipemlp.schedule import gpipe as gpipe_module
from pipemlp.schedule import interleaved as interleaved_module
from pipemlp.schedule import interleaved_zb as interleaved_zb_module
from pipemlp.schedule import zb_h1 as zb_h1_module
from pipemlp.schedule import zb_h2 as zb_h2_module
from pipemlp.schedule import zb_v as zb_v_module
from pipemlp.schedule.action import Action, Kind
from pipemlp.schedule.alternating import alternate
from pipemlp.schedule.costs import uniform_costs
from pipemlp.schedule.deadlock import check_links
from pipemlp.schedule.gpipe import gpipe
from pipemlp.schedule.interleaved import interleaved_one_f_one_b, rounds
from pipemlp.schedule.interleaved_zb import interleaved_zb
from pipemlp.schedule.lower import lower
from pipemlp.schedule.one_f_one_b import one_f_one_b
from pipemlp.schedule.schedule import Schedule
from pipemlp.schedule.simulate import simulate
from pipemlp.schedule.simulation import Simulation
from pipemlp.schedule.validate import check
from pipemlp.schedule.zb_h1 import zb_h1
from pipemlp.schedule.zb_h2 import zb_h2
from pipemlp.schedule.zb_v import zb_v

SINGLE = (gpipe, one_f_one_b, zb_h1, zb_h2, zb_v)
SEVERAL = (interleaved_one_f_one_b, interleaved_zb)
GRID = list(product(range(1, 9), range(1, 27)))
"""Stages x micro-batches."""
ENOUGH = [(p, m) for p, m in GRID if m >= p]


def simulated(schedule: Schedule, hop: float = 0.0) -> Simulation:
    """A stage takes 1 for each of F, I and W."""
    return simulate(schedule, uniform_costs(schedule.num_stages, schedule.num_virtual_stages, hop=hop))


@st.composite
def named(draw: st.DrawFn) -> Schedule:
    num_stages, num_micro_batches = draw(st.integers(1, 9)), draw(st.integers(1, 30))
    maker = draw(st.sampled_from((*SINGLE, *SEVERAL)))
    if maker in SEVERAL:
        return maker(num_stages, num_micro_batches, draw(st.integers(1, 4)))
    return maker(num_stages, num_micro_batches)


@given(named())
def test_every_size_is_legal_and_cannot_hang(schedule):
    check(schedule)
    check_links(lower(simulated(schedule)), schedule)


@pytest.mark.parametrize(
    ("module", "schedule", "backward"),
    [
        (gpipe_module, gpipe(3, 4), 1.0),
        (interleaved_module, interleaved_one_f_one_b(2, 4), 1.0),
        (zb_h1_module, zb_h1(3, 4), 2.0),
        (zb_h2_module, zb_h2(3, 5), 2.0),
        (interleaved_zb_module, interleaved_zb(3, 3), 2.0),
        (zb_v_module, zb_v(3, 4), 2.0),
    ],
    ids=lambda value: value.name if isinstance(value, Schedule) else "",
)
def test_the_drawing_is_what_happens(module: ModuleType, schedule: Schedule, backward: float):
    """Every action of a virtual stage takes one column."""
    num, column = schedule.num_virtual_stages, schedule.num_virtual_stages * backward / 2
    costs = uniform_costs(schedule.num_stages, num, forward=num, input_gradient=column, weight_gradient=column)
    assert drawn_rows(module.__doc__) == draw(simulate(schedule, costs))


@pytest.mark.parametrize(
    ("make", "bubbles"),
    [
        (one_f_one_b, (0.2727, 0.1579, 0.3043, 0.1795)),
        (gpipe, (0.2727, 0.1579, 0.3043, 0.1795)),
        (lambda p, m: interleaved_one_f_one_b(p, m, 2), (0.1579, 0.0857, 0.1795, 0.0986)),
        (lambda p, m: interleaved_one_f_one_b(p, m, 4), (0.0857, None, 0.0986, None)),
        (zb_h1, (0.1111, 0.0588, 0.1273, 0.0680)),
        (lambda p, m: interleaved_zb(p, m, 2), (0.0588, 0.0303, 0.0680, 0.0352)),
        (zb_v, (0.0588, 0.0303, 0.0680, 0.0352)),
    ],
)
def test_the_reference_bubbles_come_out(make: Callable[[int, int], Schedule], bubbles: tuple[float | None, ...]):
    """Simulated from other implementations: research on engines, section 2c."""
    for (num_stages, num_micro_batches), bubble in zip([(4, 8), (4, 16), (8, 16), (8, 32)], bubbles, strict=True):
        if bubble is not None:
            assert simulated(make(num_stages, num_micro_batches)).bubble_fraction == pytest.approx(bubble, abs=6e-5)


@pytest.mark.parametrize(
    ("schedule", "bubble"),
    [(interleaved_one_f_one_b(4, 8), 0.1973), (interleaved_zb(4, 8), 0.1144), (zb_v(4, 8), 0.1045)],
    ids=lambda value: value.name if isinstance(value, Schedule) else "",
)
def test_hops_cost_no_more_than_elsewhere(schedule: Schedule, bubble: float):
    assert simulated(schedule, hop=0.1).bubble_fraction <= bubble + 6e-5


@pytest.mark.parametrize(
    ("schedule", "in_flight"),
    [
        (gpipe(4, 8), (8, 8, 8, 8)),
        (one_f_one_b(4, 8), (4, 3, 2, 1)),
        (interleaved_one_f_one_b(4, 8), (5.5, 4.5, 3.5, 2.5)),
        (zb_h1(4, 8), (4, 4, 4, 4)),
        (zb_h2(4, 8), (7, 7, 7, 7)),
        (interleaved_zb(4, 8), (4, 4, 4, 4)),
        (zb_v(4, 8), (4, 4, 4, 4)),
    ],
    ids=lambda value: value.name if isinstance(value, Schedule) else "",
)
def test_the_reference_peaks_come_out(schedule: Schedule, in_flight: tuple[float, ...]):
    assert simulated(schedule).peak_in_flight == in_flight


def test_the_bubble_of_whole_backwards():
    for p, m in GRID:
        assert simulated(gpipe(p, m)).bubble_fraction == pytest.approx((p - 1) / (m + p - 1))
    for (p, m), v in product(ENOUGH, (1, 2, 3)):
        bubble = simulated(interleaved_one_f_one_b(p, m, v)).bubble_fraction
        assert bubble == pytest.approx((p - 1) / (v * m + p - 1))


def test_the_bubble_of_split_backwards():
    for p, m in ENOUGH:
        for schedule in (zb_h1(p, m), zb_h2(p, m)):
            assert simulated(schedule).bubble_fraction == pytest.approx((p - 1) / (3 * m + p - 1))
        assert simulated(zb_v(p, m)).bubble_fraction == pytest.approx((p - 1) / (6 * m + p - 1))
        for v in (1, 2, 3):
            assert simulated(interleaved_zb(p, m, v)).bubble_fraction == pytest.approx((p - 1) / (3 * v * m + p - 1))


def test_the_time_with_fewer_micro_batches_than_stages():
    for p, m in set(GRID) - set(ENOUGH):
        assert simulated(zb_h1(p, m)).makespan == simulated(zb_h2(p, m)).makespan == 2 * (m + p) - 1
        for schedule in (zb_v(p, m), interleaved_zb(p, m, 2)):
            assert simulated(schedule).makespan == max(2 * m + 1.5 * p - 0.5, m + 2 * p - 0.5)


def test_the_bubble_of_zb_h1_for_other_costs():
    """Without a barrier before the next step, stage 0 is the measure: it pauses (p - 1) (F + I - W) seconds."""
    for p, weight in product((2, 4, 8), (0.25, 0.5, 1.0)):
        costs = uniform_costs(p, weight_gradient=weight)
        simulation = simulate(zb_h1(p, 3 * p), costs)
        assert simulation.ends[0][-1] - simulation.busy[0] == pytest.approx((p - 1) * (2 - weight))


def test_zb_h2_never_pauses():
    """From its own first action to its own last, with equal costs and enough micro-batches."""
    for p, m in GRID:
        if m >= 2 * p - 1:
            simulation = simulated(zb_h2(p, m))
            for stage, (starts, ends, busy) in enumerate(
                zip(simulation.starts, simulation.ends, simulation.busy, strict=True)
            ):
                assert (starts[0], ends[-1] - starts[0]) == (stage, busy)


def test_what_is_in_flight():
    for p, m in GRID:
        assert set(simulated(zb_h1(p, m)).peak_in_flight) == {min(p, m)}
        assert set(simulated(zb_h2(p, m)).peak_in_flight) == {min(2 * p - 1, m)}
        assert max(simulated(zb_v(p, m)).peak_in_flight) == min(p, m)
        for v in (2, 3):
            first = rounds(p, m)[0]
            peaks = simulated(interleaved_one_f_one_b(p, m, v)).peak_in_flight
            assert peaks == tuple(min(m, ((v - 1) * first + 2 * (p - 1 - stage) + 1) / v) for stage in range(p))
            peaks = simulated(interleaved_zb(p, m, v)).peak_in_flight
            assert max(peaks) <= min(m, ((v - 1) * first + p) / v)
            assert m < p or peaks[0] == min(m, ((v - 1) * first + p) / v)
    for p, m in GRID:
        if m >= 2 * p - 1:
            assert set(simulated(zb_v(p, m)).peak_in_flight) == {p}


def test_one_virtual_stage_per_stage_is_the_plain_schedule():
    for p, m in GRID:
        assert interleaved_one_f_one_b(p, m, 1).actions == one_f_one_b(p, m).actions
        assert interleaved_zb(p, m, 1).actions == zb_h1(p, m).actions


def test_rounds_hold_all_micro_batches_and_none_is_short():
    for p, m in GRID:
        lengths = rounds(p, m)
        assert sum(lengths) == m
        assert lengths == tuple(sorted(lengths, reverse=True))
        assert lengths[0] - lengths[-1] <= 1
        assert min(lengths) >= min(p, m)


def order_of_torch(schedule_class: type, p: int, m: int, v: int) -> tuple[tuple[Action, ...], ...]:
    num_rounds = max(1, m // p)
    sizes = SimpleNamespace(
        n_local_stages=v, pp_group_size=p, num_stages=p * v, _n_microbatches=m, microbatches_per_round=m // num_rounds
    )
    kinds: dict[str, Kind] = {"FORWARD": "F", "FULL_BACKWARD": "B", "BACKWARD_INPUT": "I", "BACKWARD_WEIGHT": "W"}
    rows = (schedule_class._calculate_single_rank_operations(sizes, stage) for stage in range(p))
    return tuple(
        tuple(
            Action(step.stage_index, kinds[step.computation_type.name], step.microbatch_index) for step in row if step
        )
        for row in rows
    )


@pytest.mark.parametrize(
    ("make", "schedule_class"),
    [(interleaved_one_f_one_b, ScheduleInterleaved1F1B), (interleaved_zb, ScheduleInterleavedZeroBubble)],
)
def test_interleaved_orders_are_those_of_torch(make, schedule_class):
    same = [(p, m) for p, m in GRID if len(set(rounds(p, m))) == 1]
    assert {(4, 8), (8, 8), (4, 6), (8, 5)} < set(same)
    for (p, m), v in product(same, (2, 3)):
        assert make(p, m, v).actions == order_of_torch(schedule_class, p, m, v)


def test_zb_v_is_never_slower_than_that_of_torch():
    """It has torch's order of forwards and input gradients where there are enough micro-batches."""
    for p, m in GRID:
        ours, theirs = zb_v(p, m), order_of_torch(ScheduleZBVZeroBubble, p, m, 2)
        other = Schedule("torch", p, 2, m, "v", theirs)
        for hop in (0.0, 0.02, 0.1):
            assert simulated(ours, hop).makespan <= simulated(other, hop).makespan * (1 + 1e-12)
        for row, their_row in zip(ours.actions, theirs, strict=True):
            assert [a for a in row if a.kind != "W"] == [a for a in their_row if a.kind != "W"]
    assert simulated(zb_v(8, 8)).makespan == 27.5


def test_a_warm_up_longer_than_the_step_is_all_forwards_first():
    steps = [(0, 0), (0, 1)]
    assert " ".join(map(str, alternate(steps, steps, 5))) == "0F0 0F1 0B0 0B1"
    assert " ".join(map(str, alternate(steps, steps, 5, 7))) == "0F0 0F1 0I0 0I1 0W0 0W1"
    assert " ".join(map(str, alternate(steps, steps, 0, 0))) == "0F0 0I0 0W0 0F1 0I1 0W1"


def test_sizes_below_one_are_refused():
    for make in (*SINGLE, *SEVERAL):
        with pytest.raises(ValueError, match="0 stages; a pipeline needs at least 1"):
            make(0, 1)
        with pytest.raises(ValueError, match="0 micro-batches; a pipeline needs at least 1"):
            make(1, 0)
    for make in SEVERAL:
        with pytest.raises(ValueError, match="0 virtual stages per stage; a pipeline needs at least 1"):
            make(1, 1, 0)
