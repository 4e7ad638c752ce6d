"""The clock against its rules: every dependency, the critical path, what is held, and sends that hold up."""

import math
import re
from collections.abc import Mapping
from dataclasses import replace
from itertools import accumulate

import pytest
from hypothesis import given
from hypothesis import strategies as st
from random_schedules import costs_of, schedule_of, schedules

from pipemlp.schedule import simulate as simulate_module
from pipemlp.schedule.action import COMPUTE_KINDS, Action, Kind
from pipemlp.schedule.costs import Costs, uniform_costs
from pipemlp.schedule.errors import ScheduleError
from pipemlp.schedule.lower import lower
from pipemlp.schedule.one_f_one_b import one_f_one_b
from pipemlp.schedule.schedule import Schedule
from pipemlp.schedule.simulate import Sends, simulate
from pipemlp.schedule.simulation import Simulation

FORWARD: tuple[Kind, ...] = ("F",)
BACKWARD: tuple[Kind, ...] = ("B", "I")
SENDS: tuple[Sends, ...] = ("buffered", "blocking")


@st.composite
def priced(draw: st.DrawFn, smallest: float = 0.01) -> tuple[Schedule, Costs]:
    schedule = draw(schedules())
    return schedule, draw(costs_of(schedule.depth, smallest=smallest))


def seconds_of(action: Action, costs: Costs) -> float:
    virtual_stage = action.virtual_stage
    parts = {
        "F": costs.forward[virtual_stage],
        "I": costs.input_gradient[virtual_stage],
        "W": costs.weight_gradient[virtual_stage],
        "B": costs.input_gradient[virtual_stage] + costs.weight_gradient[virtual_stage],
    }
    return parts[action.kind] + costs.overhead


def times(simulation: Simulation) -> tuple[dict[Action, float], dict[Action, float]]:
    """Start and end of every action; those of an `I` under the name of the `B` too, which it stands for."""
    starts: dict[Action, float] = {}
    ends: dict[Action, float] = {}
    rows = zip(simulation.schedule.actions, simulation.starts, simulation.ends, strict=True)
    for actions, row_starts, row_ends in rows:
        for action, start, end in zip(actions, row_starts, row_ends, strict=True):
            for name in {action, action._replace(kind="B") if action.kind == "I" else action}:
                starts[name], ends[name] = start, end
    return starts, ends


def arrival(action: Action, schedule: Schedule, costs: Costs, ends: Mapping[Action, float]) -> float:
    """When the input of an action is there, with buffered sends."""
    virtual_stage, kind, micro_batch = action
    other = virtual_stage - 1 if kind == "F" else virtual_stage + 1
    if kind == "W" or not 0 <= other < schedule.depth:
        return 0.0
    away = schedule.stage_of(other) != schedule.stage_of(virtual_stage)
    hop = costs.hop[min(other, virtual_stage)] if away else 0.0
    return ends[Action(other, "F" if kind == "F" else "B", micro_batch)] + hop


@given(priced())
def test_every_action_starts_as_soon_as_it_may(case: tuple[Schedule, Costs]) -> None:
    schedule, costs = case
    simulation = simulate(schedule, costs)
    _, ends = times(simulation)
    for actions, row_starts, row_ends in zip(schedule.actions, simulation.starts, simulation.ends, strict=True):
        free = 0.0
        for action, start, end in zip(actions, row_starts, row_ends, strict=True):
            assert start == max(free, arrival(action, schedule, costs, ends))
            assert end - start == pytest.approx(seconds_of(action, costs))
            free = end


@given(priced(), st.sampled_from(SENDS))
def test_nothing_is_shorter_than_its_parts(case: tuple[Schedule, Costs], sends: Sends) -> None:
    schedule, costs = case
    simulation = simulate(schedule, costs, sends=sends)
    assert simulation.makespan == max(row[-1] for row in simulation.ends)
    for actions, busy in zip(schedule.actions, simulation.busy, strict=True):
        assert busy == pytest.approx(sum(seconds_of(action, costs) for action in actions))
        assert busy <= simulation.makespan
    assert all(0.0 <= bubble < 1.0 for bubble in simulation.bubbles)
    through = sum(seconds_of(Action(stage, kind, 0), costs) for stage in range(schedule.depth) for kind in ("F", "I"))
    assert simulation.makespan >= through * (1 - 1e-9)


@given(priced())
def test_each_action_of_the_critical_path_delays_the_next(case: tuple[Schedule, Costs]) -> None:
    schedule, costs = case
    simulation = simulate(schedule, costs)
    starts, ends = times(simulation)
    path = simulation.critical_path
    assert (starts[path[0]], ends[path[-1]]) == (0.0, simulation.makespan)
    total = seconds_of(path[0], costs)
    for before, after in zip(path, path[1:], strict=False):
        same = schedule.stage_of(before.virtual_stage) == schedule.stage_of(after.virtual_stage)
        hop = 0.0 if same else costs.hop[min(before.virtual_stage, after.virtual_stage)]
        assert starts[after] == ends[before] + hop
        total += hop + seconds_of(after, costs)
    assert total == pytest.approx(simulation.makespan)


@given(schedules(), st.data(), st.sampled_from((0.0, 0.7)))
def test_the_critical_path_with_sends_that_hold_up_adds_up_too(
    schedule: Schedule, data: st.DataObject, hop: float
) -> None:
    costs = replace(data.draw(costs_of(schedule.depth)), hop=(hop,) * (schedule.depth - 1))
    simulation = simulate(schedule, costs, sends="blocking")
    rest = simulation.makespan - sum(seconds_of(action, costs) for action in simulation.critical_path)
    num_hops = round(rest / hop) if hop else 0
    assert num_hops >= 0
    assert rest == pytest.approx(num_hops * hop, abs=1e-9)


@given(priced())
def test_sends_that_hold_up_never_help(case: tuple[Schedule, Costs]) -> None:
    schedule, costs = case
    buffered, blocking = (simulate(schedule, costs, sends=sends) for sends in SENDS)
    assert blocking.peak_bytes == buffered.peak_bytes
    assert blocking.busy == buffered.busy
    for early, late in zip(buffered.starts, blocking.starts, strict=True):
        assert all(a <= b for a, b in zip(early, late, strict=True))


@given(priced(smallest=0.0), st.sampled_from(SENDS))
def test_actions_may_take_no_time(case: tuple[Schedule, Costs], sends: Sends) -> None:
    schedule, costs = case
    assert simulate(schedule, costs, sends=sends).makespan >= simulate(schedule, costs).makespan


def test_a_step_that_takes_no_time_has_no_bubble() -> None:
    costs = uniform_costs(2, forward=0.0, input_gradient=0.0, weight_gradient=0.0)
    for sends in SENDS:
        simulation = simulate(one_f_one_b(2, 3), costs, sends=sends)
        assert (simulation.makespan, simulation.bubbles, simulation.bubble_fraction) == (0.0, (0.0, 0.0), 0.0)


def held(schedule: Schedule, costs: Costs, stage: int) -> list[tuple[float, float]]:
    """Bytes and whole micro-batches that a stage holds after each action, counted anew each time; no transfers."""
    result = []
    for count in range(1, len(schedule.actions[stage]) + 1):
        done = set(schedule.actions[stage][:count])
        size = live = 0.0
        for virtual_stage, _, micro_batch in {action for action in done if action.kind == "F"}:
            backward, inputs, weights = (Action(virtual_stage, kind, micro_batch) for kind in ("B", "I", "W"))
            if not {backward, inputs} & done:
                size += costs.kept_bytes[virtual_stage]
            elif inputs in done and weights not in done:
                size += costs.pending_bytes[virtual_stage]
            live += not {backward, weights} & done
        result.append((size, live / schedule.num_virtual_stages))
    return result


@given(priced())
def test_memory_is_what_is_held_after_each_action(case: tuple[Schedule, Costs]) -> None:
    schedule, costs = case
    costs = replace(costs, hop_bytes=(0.0,) * (schedule.depth - 1))
    simulation = simulate(schedule, costs)
    for stage in range(schedule.num_stages):
        sizes, lives = zip(*held(schedule, costs, stage), strict=True)
        assert simulation.peak_bytes[stage] == pytest.approx(max(sizes))
        assert simulation.peak_in_flight[stage] == pytest.approx(max(lives))


def on_the_way(schedule: Schedule, costs: Costs, steps: tuple[Action, ...]) -> float:
    """Bytes of the tensors between virtual stages that a stage holds after some steps, counted anew each time."""
    computed = [step for step in steps if step.kind in ("F", "B", "I")]
    done = set(computed)
    size = 0.0
    for virtual_stage, kind, micro_batch in (step for step in steps if step.kind in ("RECV_F", "RECV_B")):
        users = [Action(virtual_stage, name, micro_batch) for name in (FORWARD if kind == "RECV_F" else BACKWARD)]
        if not done.intersection(users):
            size += costs.hop_bytes[virtual_stage - 1 if kind == "RECV_F" else virtual_stage]
    last = next(step for step in reversed(steps) if step.kind in COMPUTE_KINDS) if computed else None
    for action in computed:
        virtual_stage, kind, micro_batch = action
        other = virtual_stage + 1 if kind == "F" else virtual_stage - 1
        if not 0 <= other < schedule.depth:
            continue
        stays = schedule.stage_of(other) == schedule.stage_of(virtual_stage)
        users = [Action(other, name, micro_batch) for name in (FORWARD if kind == "F" else BACKWARD)]
        if (stays and not done.intersection(users)) or (not stays and action == last):
            size += costs.hop_bytes[min(virtual_stage, other)]
    return size


@given(priced())
def test_memory_has_the_tensors_on_the_way(case: tuple[Schedule, Costs]) -> None:
    schedule, costs = case
    simulation = simulate(schedule, costs)
    without = replace(costs, hop_bytes=(0.0,) * (schedule.depth - 1))
    for stage, steps in enumerate(lower(simulation)):
        kept = [0.0, *(size for size, _ in held(schedule, without, stage))]
        counts = list(accumulate(step.kind in COMPUTE_KINDS for step in steps))
        sizes = [kept[count] + on_the_way(schedule, costs, steps[: length + 1]) for length, count in enumerate(counts)]
        assert simulation.peak_bytes[stage] == pytest.approx(max(sizes))


@pytest.mark.parametrize("num_micro_batches", [1, 2, 3, 4, 9])
@pytest.mark.parametrize("num_stages", [1, 2, 3, 4, 5])
def test_one_f_one_b_holds_a_micro_batch_per_stage_that_follows(num_stages: int, num_micro_batches: int) -> None:
    costs = uniform_costs(num_stages, forward=1.0, input_gradient=1.5, weight_gradient=0.3, hop=0.2)
    simulation = simulate(one_f_one_b(num_stages, num_micro_batches), costs)
    expected = tuple(float(min(num_stages - stage, num_micro_batches)) for stage in range(num_stages))
    assert simulation.peak_in_flight == simulation.peak_bytes == expected


@pytest.mark.parametrize(("num_stages", "num_micro_batches"), [(4, 8), (4, 16), (8, 16), (8, 32), (1, 3), (3, 1)])
def test_the_bubble_of_one_f_one_b_is_the_formula(num_stages: int, num_micro_batches: int) -> None:
    """(p - 1) / (m + p - 1): Megatron-LM, arXiv 2104.04473, section 2.2."""
    simulation = simulate(one_f_one_b(num_stages, num_micro_batches), uniform_costs(num_stages))
    assert simulation.bubble_fraction == pytest.approx((num_stages - 1) / (num_micro_batches + num_stages - 1))


TWO = schedule_of("0F0 0F1 0B0 0B1", "1F0 1B0 1F1 1B1", num_micro_batches=2)


def test_the_drawing() -> None:
    simulation = simulate(one_f_one_b(3, 4), uniform_costs(3))
    rows = []
    for actions, starts, ends in zip(simulation.schedule.actions, simulation.starts, simulation.ends, strict=True):
        cells = [".."] * 18
        for action, start, end in zip(actions, starts, ends, strict=True):
            cells[int(start) : int(end)] = [f"{action.kind}{action.micro_batch}"] * int(end - start)
        rows.append(" ".join(cells))
    drawn = re.findall(r"stage \d +(.*)", simulate_module.__doc__ or "")
    assert rows == drawn


def test_a_hop_delays_the_other_stage_only() -> None:
    costs = replace(uniform_costs(2), hop=(0.5,), overhead=0.25)
    simulation = simulate(TWO, costs)
    assert simulation.starts == ((0.0, 1.25, 5.75, 9.25), (1.75, 3.0, 5.25, 6.5))
    assert simulation.makespan == 11.5


def test_a_send_holds_up_its_stage_for_a_hop() -> None:
    costs = replace(uniform_costs(2), hop=(0.5,))
    simulation = simulate(TWO, costs, sends="blocking")
    assert simulation.starts == ((0.0, 1.5, 5.0, 8.5), (1.5, 2.5, 5.0, 6.0))
    assert " ".join(map(str, simulation.critical_path)) == "0F0 1F0 1B0 1F1 1B1 0B1"


def test_a_send_holds_up_its_stage_until_the_receiver_is_ready() -> None:
    """Stage 1 gets ready for 1F2 and 1F3 after 1F0 and 1F1, and is itself held up ten seconds by sending those."""
    schedule = schedule_of(
        "0F0 0F1 0F2 0F3 0B0 0B1 0B2 0B3",
        "1F0 1F1 1F2 1F3 1B0 1B1 1B2 1B3",
        "2F0 2F1 2F2 2F3 2B0 2B1 2B2 2B3",
        num_micro_batches=4,
    )
    costs = replace(uniform_costs(3), hop=(0.0, 10.0))
    assert simulate(schedule, costs).starts[0][:4] == (0.0, 1.0, 2.0, 3.0)
    simulation = simulate(schedule, costs, sends="blocking")
    assert simulation.starts[0][:4] == (0.0, 1.0, 2.0, 12.0)
    assert simulation.starts[1][:4] == (1.0, 12.0, 23.0, 34.0)


def test_transfers_are_held_between_post_and_use() -> None:
    """Row 1 after 0F1: two activations, the one just sent, buffers for two gradients. Row 2: both activations."""
    costs = replace(uniform_costs(2), hop_bytes=(0.25,))
    assert simulate(TWO, costs).peak_bytes == (2.75, 1.25)


def test_a_tensor_that_stays_on_its_stage_is_held_until_its_use() -> None:
    v = schedule_of("0F0 3F0 3B0 0B0", "1F0 2F0 2B0 1B0", num_virtual_stages=2, num_micro_batches=1, placement="v")
    costs = replace(uniform_costs(2, 2), hop_bytes=(0.0, 0.25, 0.0))
    assert simulate(v, costs).peak_bytes == (1.0, 1.0)
    costs = replace(costs, kept_bytes=(0.0,) * 4, pending_bytes=(0.0,) * 4)
    assert simulate(v, costs).peak_bytes == (0.0, 0.25)


def test_stages_that_wait_for_each_other_are_named() -> None:
    schedule = schedule_of("0F0 0B0 0F1 0B1", "1F1 1F0 1B0 1B1", num_micro_batches=2)
    with pytest.raises(ScheduleError, match="^row 1, column 2: 0B0 waits for 1B0 .row 2, column 3.; row 2, column 1"):
        simulate(schedule, uniform_costs(2))


def test_an_input_that_nobody_makes_is_named() -> None:
    schedule = schedule_of("0F0 0B0", "1F0 1B0 1F1 1B1", num_micro_batches=2)
    message = r"^row 2, column 3: 1F1 waits for 0F1 \(which no row has\); row 1 has ended$"
    with pytest.raises(ScheduleError, match=message):
        simulate(schedule, uniform_costs(2))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"forward": (1.0,)}, "costs.forward has 1 entries; 2 virtual stages need 2"),
        ({"hop": ()}, "costs.hop has 0 entries; 2 virtual stages need 1"),
        ({"weight_gradient": (1.0, -1.0)}, "costs.weight_gradient[1] is -1.0; costs are finite and not negative"),
        ({"kept_bytes": (math.inf, 1.0)}, "costs.kept_bytes[0] is inf; costs are finite and not negative"),
        ({"overhead": math.nan}, "costs.overhead[0] is nan; costs are finite and not negative"),
    ],
)
def test_costs_that_make_no_sense_are_refused(changes: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match="costs") as error:
        simulate(TWO, replace(uniform_costs(2), **changes))  # type: ignore[arg-type]
    assert str(error.value) == message
