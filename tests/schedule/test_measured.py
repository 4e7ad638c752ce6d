"""Measured steps: what their time went into, by hand and against the simulator; damaged files; pictures."""

import json
from collections.abc import Callable
from dataclasses import replace
from xml.etree import ElementTree

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipemlp.schedule.action import Action, parse_action
from pipemlp.schedule.costs import Costs, uniform_costs
from pipemlp.schedule.measured import Event, MeasuredStep, measured_of, read_timeline
from pipemlp.schedule.measured_picture import picture_of_step, trace_of_step
from pipemlp.schedule.methods import make_schedule
from pipemlp.schedule.render_chrome import render_chrome
from pipemlp.schedule.render_svg import render_svg
from pipemlp.schedule.schedule import Schedule
from pipemlp.schedule.simulate import simulate
from pipemlp.schedule.time_shares import TimeShares, clock_error, median_seconds, predicted, sum_of, time_shares

STAGES = (  # action, start, end, waited; stage 1 is early and waits for stage 0 to begin at 10
    [
        ["0F0", 10.0, 12.0, 0.0],
        ["0SEND_F0", 12.0, 13.5, 0.0],
        ["0F1", 12.5, 14.0, 0.0],
        ["0SEND_F1", 14.0, 15.0, 0.0],
        ["0RECV_B0", 14.0, 18.0, 0.0],
        ["0B0", 14.0, 20.0, 4.0],  # 1B0 ended at 17
        ["0RECV_B1", 16.0, 22.5, 0.0],
        ["0B1", 20.0, 24.0, 2.5],  # 1B1 ended at 22
    ],
    [
        ["1RECV_F0", 8.0, 13.0, 0.0],
        ["1F0", 9.0, 14.0, 4.0],
        ["1RECV_F1", 14.0, 17.5, 0.0],
        ["1B0", 14.0, 17.0, 0.0],
        ["1SEND_B0", 17.0, 19.0, 0.0],
        ["1F1", 17.25, 19.0, 0.25],  # 0F1 had ended at 14: only the transfer was late
        ["1B1", 19.0, 22.0, 0.0],
        ["1SEND_B1", 22.0, 25.0, 0.0],
    ],
)
BY_HAND = (
    TimeShares(compute=7.0, bubble=3.0 + 2.0, transfer_wait=1.0 + 0.5, other=0.5),
    TimeShares(compute=8.5, bubble=2.0 + 2.0, transfer_wait=1.0 + 0.25, other=0.25),
)
CSV = "0F0,0F1,0B0,0B1\n1F0,1B0,1F1,1B1\n"


def file_of(num_replicas: int = 1) -> dict:
    """The file of one step; replica r is r + 1 times as slow."""
    ranks = [
        {
            "rank": stage * num_replicas + replica,
            "stage": stage,
            "replica": replica,
            "virtual_stages": [stage],
            "events": [[action, *(time * (replica + 1) for time in times)] for action, *times in events],
        }
        for stage, events in enumerate(STAGES)
        for replica in range(num_replicas)
    ]
    schedule = {"name": "1f1b", "csv": CSV}
    return {
        "format": 1,
        "schedule": schedule,
        "num_replicas": num_replicas,
        "steps": [{"step": step, "ranks": ranks} for step in (10, 20)],
    }


@pytest.fixture
def by_hand() -> MeasuredStep:
    return read_timeline(json.dumps(file_of()))[-1][0]


def test_a_step_is_read_as_it_was_written(by_hand):
    assert (by_hand.step, by_hand.replica, by_hand.schedule.name) == (20, 0, "1f1b")
    assert by_hand.schedule == make_schedule("1f1b", 2, 2)
    assert by_hand.computations[1][0] == Event(Action(1, "F", 0), 9.0, 14.0, 4.0)
    assert [str(event.action) for event in by_hand.transfers[0]] == ["0SEND_F0", "0SEND_F1", "0RECV_B0", "0RECV_B1"]
    assert (by_hand.start, by_hand.end, by_hand.makespan) == (10.0, 24.0, 14.0)


def test_the_ranks_of_a_stage_are_its_replicas():
    steps = read_timeline(json.dumps(file_of(num_replicas=3)))
    assert [[(step.step, step.replica) for step in replicas] for replicas in steps] == [
        [(number, replica) for replica in range(3)] for number in (10, 20)
    ]
    for replica, step in enumerate(steps[0]):
        assert step.makespan == 14.0 * (replica + 1)
        assert time_shares(step)[1].transfer_wait == 1.25 * (replica + 1)


def test_shares_by_hand(by_hand):
    shares = time_shares(by_hand)
    assert shares == BY_HAND
    assert [own.total for own in shares] == [by_hand.makespan] * 2
    assert sum_of(shares) == TimeShares(15.5, 9.0, 2.75, 0.75)
    assert sum_of(shares).share("bubble") == 9.0 / 28.0


def test_medians_by_hand(by_hand):
    assert median_seconds(by_hand) == {(0, "B"): 1.75, (0, "F"): 1.75, (1, "B"): 3.0, (1, "F"): 1.25}


def test_clocks_that_cannot_be_right_are_noticed(by_hand):
    assert clock_error(by_hand) == 0.0
    (first, *rest), other = by_hand.computations
    assert clock_error(replace(by_hand, computations=((first._replace(end=13.75), *rest), other))) == 0.75


SIZES = st.tuples(
    st.sampled_from(["gpipe", "1f1b", "interleaved-1f1b", "zb-h1", "zb-h2", "zb-v"]),
    st.integers(1, 5),
    st.integers(1, 9),
)
COST = st.floats(0.01, 10.0)


@st.composite
def simulations(draw: st.DrawFn, hops: st.SearchStrategy[float]) -> tuple[Schedule, Costs]:
    """A schedule with costs that differ from virtual stage to virtual stage."""
    schedule = make_schedule(*draw(SIZES))
    several = st.lists(COST, min_size=schedule.depth, max_size=schedule.depth).map(tuple)
    costs = uniform_costs(schedule.num_stages, schedule.num_virtual_stages)
    hop = tuple(draw(st.lists(hops, min_size=schedule.depth - 1, max_size=schedule.depth - 1)))
    names = ("forward", "input_gradient", "weight_gradient")
    return schedule, replace(costs, **{name: draw(several) for name in names}, hop=hop, overhead=draw(st.floats(0, 1)))


@given(simulations(st.just(0.0)))
def test_without_hops_a_simulated_step_has_the_bubbles_of_the_simulation(case):
    simulation = simulate(*case)
    for own, busy, bubble in zip(
        time_shares(measured_of(simulation)), simulation.busy, simulation.bubbles, strict=True
    ):
        assert own.compute == pytest.approx(busy)
        assert own.share("bubble") == pytest.approx(bubble, abs=1e-9)
        assert own.transfer_wait + own.other == pytest.approx(0.0, abs=1e-9 * simulation.makespan)


@given(simulations(COST))
def test_the_transfer_wait_of_a_simulated_step_is_the_part_of_hops_that_nothing_hides(case):
    simulation = simulate(*case)
    schedule, costs = case
    begins = {
        action: time
        for actions, starts in zip(schedule.actions, simulation.starts, strict=True)
        for action, time in zip(actions, starts, strict=True)
    }
    for stage, own in enumerate(time_shares(measured_of(simulation))):
        free, expected = 0.0, 0.0
        for action, start, end in zip(
            schedule.actions[stage], simulation.starts[stage], simulation.ends[stage], strict=True
        ):
            virtual_stage, kind, micro_batch = action
            source = Action(virtual_stage + (-1 if kind == "F" else 1), kind, micro_batch)
            if kind != "W" and source in begins and schedule.stage_of(source.virtual_stage) != stage:
                expected += min(costs.hop[min(source.virtual_stage, virtual_stage)], start - free)
            free = end
        assert own.transfer_wait == pytest.approx(expected, abs=1e-9 * simulation.makespan)
        assert own.compute + own.bubble + own.transfer_wait == pytest.approx(simulation.makespan)


def test_one_micro_batch_by_hand():
    simulation = simulate(make_schedule("gpipe", 3, 1), uniform_costs(3, hop=0.5))
    assert simulation.makespan == 3 * 1 + 3 * 2 + 4 * 0.5
    shares = time_shares(measured_of(simulation))
    assert shares[0] == TimeShares(compute=3.0, bubble=7.5, transfer_wait=0.5, other=0.0)
    assert shares[1] == TimeShares(compute=3.0, bubble=1.0 + 3.5 + 2.5, transfer_wait=2 * 0.5, other=0.0)


@given(simulations(COST), st.floats(0.001, 1000.0))
def test_a_step_that_is_as_the_costs_say_is_predicted_exactly(case, factor):
    schedule, costs = case
    simulation = simulate(schedule, costs)
    names = ("forward", "input_gradient", "weight_gradient", "hop")
    unscaled = {name: tuple(entry / factor for entry in getattr(costs, name)) for name in names}
    prediction = predicted(measured_of(simulation), replace(costs, **unscaled, overhead=costs.overhead / factor))
    assert prediction.makespan == pytest.approx(simulation.makespan)
    assert prediction.busy == pytest.approx(simulation.busy)


def test_a_prediction_has_the_measured_seconds_of_computation_and_the_shape_of_the_costs(by_hand):
    prediction = predicted(by_hand, uniform_costs(2))
    assert prediction.schedule == by_hand.schedule
    assert sum(prediction.busy) == pytest.approx(15.5)
    assert prediction.bubbles == pytest.approx((1 / 3, 1 / 3))  # (p - 1) / (m + p - 1)


@pytest.mark.parametrize(
    ("costs", "message"),
    [
        (uniform_costs(3), "has 3 entries; 2 virtual stages need 2"),
        (uniform_costs(2, forward=0.0, input_gradient=0.0, weight_gradient=0.0), "all costs are 0"),
    ],
)
def test_costs_that_predict_nothing_are_refused(by_hand, costs, message):
    with pytest.raises(ValueError, match=message):
        predicted(by_hand, costs)


def spoilt(change: Callable[[dict], object]) -> str:
    value = file_of(num_replicas=2)
    change(value)
    return json.dumps(value)


def event_of(value: dict) -> list:
    """The first event of rank 2: stage 1, replica 0."""
    return value["steps"][0]["ranks"][2]["events"][1]


DAMAGED = {
    "cut off": (spoilt(dict)[:-40], "is not JSON: "),
    "another kind": ("[1, 2]", "is not of the format that this version reads: 1 expected, None found"),
    "another version": (spoilt(lambda v: v.update(format=2)), "1 expected, 2 found"),
    "no steps": (spoilt(lambda v: v.pop("steps")), "a part is missing or of another type: KeyError: 'steps'"),
    "empty": (spoilt(lambda v: v["steps"].clear()), "0 steps of 2 replicas"),
    "a number for a list": (spoilt(lambda v: v.update(steps=3)), "a part is missing or of another type: TypeError"),
    "no replicas": (spoilt(lambda v: v.update(num_replicas=0)), "4 ranks, but 2 stages x 0 replicas are 0"),
    "endless replicas": (spoilt(lambda v: v.update(num_replicas=float("inf"))), "OverflowError"),
    "an illegal schedule": (spoilt(lambda v: v["schedule"].update(csv="0F0,0B0\n1B0,1F0\n")), "1B0"),
    "a rank is missing": (
        spoilt(lambda v: v["steps"][0]["ranks"].pop()),
        "step 10: 3 ranks, but 2 stages x 2 replicas",
    ),
    "ranks in another order": (
        spoilt(lambda v: v["steps"][0]["ranks"].reverse()),
        "step 10: entry 0 of the ranks is not stage 0 of replica 0",
    ),
    "an action is missing": (
        spoilt(lambda v: v["steps"][0]["ranks"][2]["events"].pop(1)),
        "step 10, rank 2: its computations are not those of the schedule, in its order",
    ),
    "no action": (spoilt(lambda v: event_of(v).__setitem__(0, "1X0")), "'1X0' is not an action"),
    "a time is missing": (spoilt(lambda v: event_of(v).pop()), "TypeError"),
    "a text for a time": (spoilt(lambda v: event_of(v).__setitem__(1, "soon")), "soon"),
    "not a number": (spoilt(lambda v: event_of(v).__setitem__(1, float("nan"))), "step 10, rank 2: 1F0 from nan to"),
    "ends before it starts": (spoilt(lambda v: event_of(v).__setitem__(2, 8.0)), "1F0 from 9.0 to 8.0 s"),
    "waits longer than it lasts": (spoilt(lambda v: event_of(v).__setitem__(3, 6.0)), "6.0 s of it waited, cannot be"),
}


@pytest.mark.parametrize(("text", "message"), DAMAGED.values(), ids=DAMAGED.keys())
def test_damaged_files_are_refused(text, message):
    with pytest.raises(ValueError) as caught:
        read_timeline(text)
    assert message in str(caught.value)


def test_the_picture_shows_computations_and_waits_for_transfers(by_hand):
    picture = picture_of_step(by_hand)
    assert picture.title == "1f1b measured: 2 stages, 2 micro-batches, step 20"
    assert picture.caption == "makespan 14 s, bubble 32.1%"
    assert [(bar.stage, str(bar.action), bar.start, bar.end) for bar in picture.bars if not bar.computes] == [
        (0, "0RECV_B0", 7.0, 8.0),
        (0, "0RECV_B1", 12.0, 12.5),
        (1, "1RECV_F0", 2.0, 3.0),
        (1, "1RECV_F1", 7.25, 7.5),
    ]
    assert [(str(bar.action), bar.start, bar.end) for bar in picture.bars if bar.computes and bar.stage == 1] == [
        ("1F0", 3.0, 4.0),
        ("1B0", 4.0, 7.0),
        ("1F1", 7.5, 9.0),
        ("1B1", 9.0, 12.0),
    ]
    assert picture_of_step(by_hand, [1]).bars == tuple(bar for bar in picture.bars if bar.stage == 1)
    assert ElementTree.fromstring(render_svg(picture)).tag.endswith("svg")


def test_the_trace_shows_every_transfer_and_none_above_another(by_hand):
    picture = trace_of_step(by_hand)
    assert {(str(bar.action), bar.start, bar.end) for bar in picture.bars if not bar.computes} == {
        (name, max(start - 10.0, 0.0), end - 10.0) for events in STAGES for name, start, end, _ in events if "_" in name
    }
    events = json.loads(render_chrome(picture))["traceEvents"]
    drawn = [event for event in events if event["ph"] == "X"]
    assert len(drawn) == len(STAGES[0]) + len(STAGES[1])
    assert {parse_action(f"{event['args']['virtual_stage']}{event['name']}") for event in drawn} == {
        parse_action(name) for own in STAGES for name, *_ in own
    }
    for thread in {event["tid"] for event in drawn}:
        row = sorted((event["ts"], event["ts"] + event["dur"]) for event in drawn if event["tid"] == thread)
        assert all(end <= start for (_, end), (start, _) in zip(row, row[1:], strict=False))
