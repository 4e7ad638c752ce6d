"""Drawings: what they show is what was simulated, and nothing else."""

import json
import re
from dataclasses import replace
from xml.etree import ElementTree

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipemlp.schedule import render_text as render_text_module
from pipemlp.schedule.action import Action, parse_action
from pipemlp.schedule.costs import uniform_costs
from pipemlp.schedule.methods import make_schedule
from pipemlp.schedule.picture import Bar, Picture, axis_marks, picture_of, time_text
from pipemlp.schedule.render_chrome import render_chrome
from pipemlp.schedule.render_svg import MOST_BARS, render_svg
from pipemlp.schedule.render_text import render_text, stages_to_draw
from pipemlp.schedule.schedule import Schedule
from pipemlp.schedule.simulate import simulate
from pipemlp.schedule.simulation import Simulation

SVG = "{http://www.w3.org/2000/svg}"

ORDERS = "0F0 0F1 0B0 0B1", "1F0 1B0 1F1 1B1"
TWO_STAGES = Simulation(
    schedule=Schedule("mine", 2, 1, 2, "loop", tuple(tuple(map(parse_action, row.split())) for row in ORDERS)),
    starts=((0.0, 1.0, 4.0, 7.0), (1.0, 2.0, 4.0, 5.0)),
    ends=((1.0, 2.0, 6.0, 9.0), (2.0, 4.0, 5.0, 7.0)),
    makespan=9.0,
    busy=(6.0, 6.0),
    critical_path=(),
    peak_bytes=(2.0, 1.0),
    peak_in_flight=(2.0, 1.0),
)
MEASURED = Picture(
    title="a <b> & c",
    caption="measured",
    stages=(0, 1),
    num_stages=2,
    num_virtual_stages=2,
    bars=(
        Bar(0, 0.000, 0.010, Action(0, "F", 0)),
        Bar(0, 0.010, 0.024, Action(3, "RECV_F", 0)),
        Bar(0, 0.024, 0.033, Action(3, "F", 0)),
        Bar(0, 0.033, 0.041, Action(3, "I", 0)),
        Bar(0, 0.041, 0.050, Action(3, "W", 0)),
        Bar(1, 0.012, 0.021, Action(1, "F", 0)),
    ),
    makespan=0.0501,
    seconds=True,
)


def simulated(name: str, num_stages: int, num_micro_batches: int, **costs: float) -> Simulation:
    schedule = make_schedule(name, num_stages, num_micro_batches)
    return simulate(schedule, uniform_costs(num_stages, schedule.num_virtual_stages, **costs))


def test_the_drawing_in_the_module_is_what_is_drawn():
    drawn = render_text(picture_of(simulated("1f1b", 3, 4)))
    assert drawn in render_text_module.__doc__


def test_a_drawing_by_hand():
    assert render_text(picture_of(TWO_STAGES)).splitlines() == [
        "mine: 2 stages, 2 micro-batches; makespan 9, bubble 33.3%",
        "",
        "stage 0  F0 F1 .. .. B0--- .. B1---",
        "stage 1  .. F0 B0--- F1 B1--- .. ..",
        "         0              5",
        "F forward  B backward  . idle",
    ]


def test_a_measured_step_with_waits_and_two_virtual_stages():
    assert render_text(MEASURED, 60).splitlines() == [
        "a <b> & c; measured",
        "",
        "stage 0  F0------- ~~~~~~~~~~~~~~f0------ i0----- w0------",
        "stage 1  ............F0------ .............................",
        "         0                   20 ms               40 ms",
        "F forward  I input gradient  W weight gradient  ~ waiting for a transfer  . idle",
        "small letters: the second virtual stage of the stage",
    ]


def test_what_is_too_long_is_cut_in_the_middle_and_says_so():
    lines = render_text(picture_of(simulated("1f1b", 4, 100)), 80).splitlines()
    rows = [line for line in lines if line.startswith("stage")]
    assert all(line.count(" // ") == 1 and len(line) <= 80 for line in rows)
    assert rows[0].startswith("stage 0  F0 F1 F2 F3 .. ..") and rows[0].endswith(" B99--")
    assert re.fullmatch(r"// the middle, from \d+ to \d+, is not drawn", lines[-1])


def test_a_warm_up_that_is_too_long_shows_what_fills_each_column():
    simulation = simulated("1f1b", 64, 256)
    lines = render_text(picture_of(simulation, stages_to_draw(64)), 80).splitlines()
    assert lines[1] == "(16 of the 64 stages)"
    rows = [line for line in lines if line.startswith("stage")]
    assert [rows[0].split()[1], rows[-1].split()[1]] == ["0", "63"] and len(rows) == 16
    assert set("".join(row[10:] for row in rows)) <= set("F=B. ") and "===" in rows[0]
    assert rows[-1][10:].startswith("...") and rows[-1].endswith("...")


SIZES = st.tuples(st.sampled_from(["gpipe", "1f1b", "zb-h1", "zb-v"]), st.integers(1, 6), st.integers(1, 12))
COST = st.floats(0.01, 10.0)


@given(sizes=SIZES, forward=COST, input_gradient=COST, weight_gradient=COST, hop=COST, width=st.integers(20, 200))
def test_rows_fit_and_begin_and_end_where_their_stage_does(sizes, width, **costs):
    simulation = simulated(*sizes, **costs)
    lines = render_text(picture_of(simulation), width).splitlines()
    rows = [line for line in lines if line.startswith("stage ")]
    assert len(rows) == simulation.schedule.num_stages
    assert all(len(line) <= max(width, 40) for line in rows)
    assert lines[0] == f"{picture_of(simulation).title}; {picture_of(simulation).caption}"


@given(sizes=SIZES)
def test_with_room_every_action_is_named_where_it_runs(sizes):
    simulation = simulated(*sizes)
    lines = render_text(picture_of(simulation), 2000).splitlines()
    schedule = simulation.schedule
    per_unit = (len(str(schedule.num_micro_batches - 1)) + 2) * schedule.num_virtual_stages
    for stage, line in enumerate(line for line in lines if line.startswith("stage ")):
        cells = line[len("stage 0  ") :]
        for action, start in zip(schedule.actions[stage], simulation.starts[stage], strict=True):
            later = action.virtual_stage >= schedule.num_stages
            name = f"{action.kind.lower() if later else action.kind}{action.micro_batch}"
            assert cells[round(start * per_unit) :].startswith(name)


def test_colours_do_not_change_the_text():
    rich_text = pytest.importorskip("rich.text")
    for picture in (picture_of(replace(TWO_STAGES, schedule=replace(TWO_STAGES.schedule, name="a[b]"))), MEASURED):
        coloured = rich_text.Text.from_markup(render_text(picture, 100, markup=True))
        assert [line.rstrip() for line in coloured.plain.splitlines()] == [
            line.rstrip() for line in render_text(picture, 100).splitlines()
        ]
        assert len(coloured.spans) > len(picture.bars)


def rows_of(svg: str) -> list[tuple[int, list[ElementTree.Element]]]:
    """Stage and bars of every row."""
    groups = [group for group in ElementTree.fromstring(svg).iter(f"{SVG}g") if group.get("class") == "bars"]
    return [(int(group.get("data-stage")), group.findall(f"{SVG}rect")) for group in groups]


@given(sizes=SIZES, forward=COST, weight_gradient=COST, hop=COST)
def test_svg_bars_are_the_simulated_actions(sizes, **costs):
    simulation = simulated(*sizes, **costs)
    schedule = simulation.schedule
    rows = rows_of(render_svg(picture_of(simulation)))
    assert [stage for stage, _ in rows] == list(range(schedule.num_stages))
    per_time = max(float(bar.get("x")) + float(bar.get("width")) for _, bars in rows for bar in bars) - 76.0
    per_time /= simulation.makespan
    for stage, bars in rows:
        assert [bar[0].text.split(":")[0] for bar in bars] == [str(action) for action in schedule.actions[stage]]
        for bar, action, start, end in zip(
            bars, schedule.actions[stage], simulation.starts[stage], simulation.ends[stage], strict=True
        ):
            assert float(bar.get("x")) == pytest.approx(76.0 + start * per_time, abs=0.02)
            assert float(bar.get("width")) == pytest.approx((end - start) * per_time, abs=0.02)
            turn = action.virtual_stage // schedule.num_stages
            assert bar.get("class") == f"{action.kind}{4 if turn else 0}"


def test_svg_shows_numbers_labels_legend_and_results():
    simulation = simulated("zb-v", 4, 8)
    root = ElementTree.fromstring(render_svg(picture_of(simulation)))
    texts = ["".join(text.itertext()) for text in root.iter(f"{SVG}text")]
    assert texts[0].startswith("zb-v: 4 stages x 2 virtual stages, 8 micro-batches")
    assert f"makespan {simulation.makespan:g}, bubble {simulation.bubble_fraction:.1%}" in texts[0]
    assert {"stage 0", "stage 3", "forward", "input gradient", "weight gradient", "idle"} <= set(texts)
    assert "lighter: second virtual stage" in texts and "waiting for a transfer" not in texts
    numbers = [text.text for text in root.iter(f"{SVG}text") if str(text.get("class")).startswith("n ")]
    assert sorted(numbers) == sorted(
        str(action.micro_batch) for actions in simulation.schedule.actions for action in actions
    )
    height = float(root.get("height"))
    assert all(0 <= float(element.get("y")) <= height for element in root.iter(f"{SVG}text"))


def test_svg_stacks_pictures_on_one_time_axis():
    above, below = (picture_of(simulated(name, 4, 8)) for name in ("1f1b", "zb-v"))
    rows = rows_of(render_svg(above, below))
    assert [stage for stage, _ in rows] == [0, 1, 2, 3] * 2
    tops = [float(bars[0].get("y")) for _, bars in rows]
    assert tops == sorted(set(tops))
    per_time = {
        round(float(bar.get("width")) / (drawn.end - drawn.start), 1)
        for (_, bars), stage, picture in zip(rows, [0, 1, 2, 3] * 2, [above] * 4 + [below] * 4, strict=True)
        for bar, drawn in zip(bars, [bar for bar in picture.bars if bar.stage == stage], strict=True)
    }
    assert len(per_time) == 1


def test_svg_needs_nothing_else_and_escapes_names():
    svg = render_svg(MEASURED)
    root = ElementTree.fromstring(svg)
    assert {element.tag.removeprefix(SVG) for element in root.iter()} <= {
        "svg", "style", "rect", "text", "tspan", "path", "g", "title",
    }  # fmt: skip
    assert "http" not in svg.replace("http://www.w3.org/2000/svg", "") and "prefers-color-scheme:dark" in svg
    assert next(root.iter(f"{SVG}text")).text.strip() == "a <b> & c"
    waits = [bar for _, bars in rows_of(svg) for bar in bars if bar.get("class") == "wait"]
    assert len(waits) == 1 and waits[0][0].text == "3RECV_F0: 10 ms to 24 ms"
    assert "waiting for a transfer" in svg


def test_colours_of_the_kinds_are_told_apart():
    svg = render_svg(picture_of(simulated("zb-v", 2, 2)), picture_of(simulated("1f1b", 2, 2)))
    colours = dict(re.findall(r"(?<=\})\.([FBIW]\d)\{fill:(#\w+)\}", svg))
    assert set(colours) == {"F0", "F4", "I0", "I4", "W0", "W4", "B0"}
    assert len(set(colours.values())) == len(colours)


def test_chrome_events_are_the_simulated_actions():
    simulation = simulated("zb-v", 4, 5)
    trace = json.loads(render_chrome(picture_of(simulation)))
    events = trace["traceEvents"]
    names = {event["tid"]: event["args"]["name"] for event in events if event["name"] == "thread_name"}
    assert names == {stage: f"stage {stage}" for stage in range(4)}
    for stage, actions in enumerate(simulation.schedule.actions):
        drawn = [event for event in events if event["ph"] == "X" and event["tid"] == stage]
        assert [(event["name"], event["args"]["virtual_stage"]) for event in drawn] == [
            (f"{action.kind}{action.micro_batch}", action.virtual_stage) for action in actions
        ]
        for event, start, end in zip(drawn, simulation.starts[stage], simulation.ends[stage], strict=True):
            assert (event["pid"], event["ts"]) == (0, start * 1e6)
            assert event["dur"] == pytest.approx((end - start) * 1e6)


def test_chrome_puts_pictures_into_processes_and_waits_beside_the_stage():
    events = json.loads(render_chrome(picture_of(TWO_STAGES), MEASURED))["traceEvents"]
    processes = {event["pid"]: event["args"]["name"] for event in events if event["name"] == "process_name"}
    assert processes == {0: "mine: 2 stages, 2 micro-batches; makespan 9, bubble 33.3%", 1: "a <b> & c; measured"}
    (wait,) = [event for event in events if event.get("cat") == "transfer"]
    assert (wait["name"], wait["pid"], wait["tid"]) == ("RECV_F0", 1, 2)
    assert {"name": "thread_name", "ph": "M", "pid": 1, "tid": 2, "args": {"name": "stage 0 transfers"}} in events


def test_chrome_transfers_that_overlap_get_threads_of_their_own():
    transfers = [Bar(0, start, start + 2.0, Action(0, "SEND_F", m)) for m, start in enumerate((0.0, 1.0, 2.0, 3.5))]
    picture = replace(picture_of(TWO_STAGES), bars=(*picture_of(TWO_STAGES).bars, *transfers))
    events = json.loads(render_chrome(picture))["traceEvents"]
    assert [(event["name"], event["tid"]) for event in events if event.get("cat") == "transfer"] == [
        ("SEND_F0", 2),
        ("SEND_F2", 2),
        ("SEND_F1", 3),
        ("SEND_F3", 3),
    ]
    names = [event["args"]["name"] for event in events if event["name"] == "thread_name"]
    assert names == ["stage 0", "stage 0 transfers", "stage 0 transfers", "stage 1"]


def test_too_many_bars_are_refused(monkeypatch):
    bars = tuple(Bar(0, float(m), m + 1.0, Action(0, "F", m)) for m in range(MOST_BARS + 1))
    picture = replace(MEASURED, bars=bars, makespan=float(len(bars)))
    with pytest.raises(ValueError, match="20,001 bars are too many for an SVG, which shows 20,000 at most"):
        render_svg(picture)
    monkeypatch.setattr("pipemlp.schedule.render_chrome.MOST_BARS", 100)
    with pytest.raises(ValueError, match="20,001 bars are too many for a Chrome trace, which shows 100 at most"):
        render_chrome(picture)


def test_a_step_in_which_nothing_happens_is_drawn():
    empty = replace(MEASURED, bars=(), makespan=0.0)
    assert render_text(empty).splitlines()[2:4] == ["stage 0", "stage 1"]
    assert [bars for _, bars in rows_of(render_svg(empty))] == [[], []]


@given(end=st.floats(1e-6, 1e6), most=st.integers(1, 40))
def test_axis_marks_are_few_round_and_reach_the_end(end, most):
    marks = axis_marks(end, most)
    assert marks[0] == 0.0 and marks[-1] <= end * (1 + 1e-6) and len(marks) <= most + 1
    if len(marks) > 1:
        assert f"{marks[1]:e}"[0] in "125"
        assert end - marks[-1] < marks[1]
    assert len(marks) > most / 3


@pytest.mark.parametrize(
    ("time", "text"), [(0.0, "0"), (1.5, "1.5 s"), (0.0125, "12.5 ms"), (25e-6, "25 us"), (12.34567, "12.35 s")]
)
def test_seconds_have_a_unit(time, text):
    assert time_text(time, True) == text
    assert time_text(time, False) == f"{time:.6g}"


@pytest.mark.parametrize(("num_stages", "drawn"), [(1, 1), (24, 24), (25, 16), (512, 16)])
def test_stages_to_draw(num_stages, drawn):
    stages = stages_to_draw(num_stages)
    assert len(set(stages)) == drawn and (stages[0], stages[-1]) == (0, num_stages - 1)
    assert list(stages) == sorted(stages)
