"""`pipemlp timeline` on a real run of two stages with two virtual stages each."""

import json
import re
import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree

import pytest
from commands import PIPEMLP, ROOT, succeed

from pipemlp.schedule.action import Action
from pipemlp.schedule.measured import Event, read_timeline
from pipemlp.training.run import open_run

CONFIG = """\
data: {source: {name: teacher, rows: 192, inputs: 8, classes: 3}, split: {validation: 0.0, test: 0.0}}
model: {hidden: {width: 64, depth: 8}}
training: {steps: 12, global_batch_size: 64}
parallel: {stages: 2, virtual_stages: 2, micro_batches: 4, schedule: zb-v, recompute: elementwise}
logging: {timeline_every_steps: 2}
"""
ROUNDING = 1e-6
RECORDED = (4, 6, 8, 10, 12)
"""Every second step and the first; the last five are kept."""
SVG = "{http://www.w3.org/2000/svg}"


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("timeline")
    (folder / "small.yaml").write_text(CONFIG)
    succeed([*PIPEMLP, "train", "small.yaml", "run.dir=run"], folder, XDG_CACHE_HOME=str(folder / "cache"))
    return folder / "run"


@pytest.fixture
def run_dir(trained: Path, copied) -> Path:
    """A copy, whose timeline.json may be replaced."""
    return copied(trained)


def replace_text(path: Path, text: str) -> None:
    """A new file; the old one is a link to the trained run's."""
    path.unlink()
    path.write_text(text)


CUTS = (
    [(0, "SEND_F"), (3, "RECV_F"), (3, "SEND_B"), (0, "RECV_B")],
    [(1, "RECV_F"), (2, "SEND_F"), (2, "RECV_B"), (1, "SEND_B")],
)
"""What crosses two of the three cuts, by stage; the middle one lies inside stage 1."""


def test_a_run_records_every_action_and_transfer_of_every_rank(trained):
    text = (trained / "timeline.json").read_text()
    recorded = read_timeline(text)
    assert [(step.step, step.replica) for (step,) in recorded] == [(number, 0) for number in RECORDED]
    assert [own["virtual_stages"] for own in json.loads(text)["steps"][0]["ranks"]] == [[0, 3], [1, 2]]
    for (step,) in recorded:
        for own, transfers, cuts in zip(step.computations, step.transfers, CUTS, strict=True):
            assert all(one.end <= other.start + ROUNDING for one, other in zip(own, own[1:], strict=False))
            assert sorted(event.action for event in transfers) == sorted(
                Action(virtual_stage, kind, m) for virtual_stage, kind in cuts for m in range(4)
            )
            for event in transfers:
                computation = partner_of(event, own)
                assert event.start <= event.end
                if event.action.kind.startswith("SEND"):
                    assert computation.end <= event.start + ROUNDING, "what is sent has been computed"
                else:
                    assert event.start <= computation.start + ROUNDING, "posted before it is waited for"
                    assert computation.start - ROUNDING <= event.end <= computation.end + ROUNDING, "taken by its user"


def partner_of(transfer: Event, computations: tuple[Event, ...]) -> Event:
    """The computation on the same rank that made what is sent, or needs what is received."""
    virtual_stage, kind, micro_batch = transfer.action
    kinds = ("F",) if kind.endswith("F") else ("B", "I")
    (found,) = [own for own in computations if own.action in [(virtual_stage, k, micro_batch) for k in kinds]]
    return found


def test_the_last_recorded_step_from_python(trained):
    step = open_run(trained).timeline()
    assert (step.step, step.replica, step.schedule.name, step.schedule.depth) == (12, 0, "zb-v", 4)


def test_the_table_and_the_files(run_dir, pipemlp):
    answer = pipemlp("timeline", run_dir)
    assert (answer.code, answer.err) == (0, "")
    lines = answer.out.splitlines()
    assert lines[0].strip() == "zb-v, step 12: milliseconds and shares of the makespan"
    assert [line.split()[:2] for line in lines if line.count("%") == 5] == [["0", "0"], ["1", "1"]]
    assert "Median milliseconds of an action (predicted)" in answer.out
    assert "makespan " in answer.out and ", predicted " in answer.out
    svg = ElementTree.parse(run_dir / "timeline.svg").getroot()
    titles = [text.text for text in svg.iter(f"{SVG}text") if text.get("class") == "title"]
    assert [title.split(":")[0] for title in titles] == ["zb-v predicted", "zb-v measured"]
    assert len([group for group in svg.iter(f"{SVG}g") if group.get("class") == "bars"]) == 4
    events = json.loads((run_dir / "timeline.trace.json").read_text())["traceEvents"]
    step = open_run(run_dir).timeline()
    num_computations = sum(map(len, step.computations))
    for process, expected in enumerate((num_computations, num_computations + sum(map(len, step.transfers)))):
        assert len([e for e in events if e["ph"] == "X" and e["pid"] == process]) == expected


def test_the_numbers_as_json(run_dir, pipemlp):
    answer = pipemlp("timeline", run_dir, "--step", 8, "--json")
    assert (answer.code, answer.err) == (0, "")
    value = json.loads(answer.out)
    assert (value["step"], value["schedule"], value["stages"], value["micro_batches"]) == (8, "zb-v", 2, 4)
    (replica,) = value["replicas"]
    parts = ("compute", "bubble", "transfer_wait", "other")
    for own in value["ranks"]:
        assert sum(own[f"{part}_seconds"] for part in parts) == pytest.approx(replica["makespan_seconds"], abs=1e-5)
        predicted = own["predicted"]
        assert sum(predicted[f"{part}_share"] for part in parts) == pytest.approx(1.0)
    computed = sum(own["predicted"]["compute_seconds"] for own in value["ranks"])
    assert computed == pytest.approx(sum(own["compute_seconds"] for own in value["ranks"]))
    ratio = replica["predicted_makespan_seconds"] / replica["makespan_seconds"]
    assert replica["error_percent"] == pytest.approx(100 * (ratio - 1))
    kinds = {(own["virtual_stage"], own["kind"]) for own in value["actions"]}
    assert kinds >= {(virtual_stage, "F") for virtual_stage in range(4)}


@pytest.mark.parametrize("name", ["mine.svg", "mine.json"])
def test_one_file_where_it_is_asked_for(run_dir, pipemlp, name):
    before = set(run_dir.iterdir())
    assert pipemlp("timeline", run_dir, "--output", name).code == 0
    assert set(run_dir.iterdir()) == before
    text = Path(name).read_text()
    assert (
        ElementTree.fromstring(text).get("role") == "img" if name.endswith("svg") else json.loads(text)["traceEvents"]
    )


@pytest.fixture
def twice_as_fast(run_dir: Path) -> Path:
    """A copy of the run whose steps took half as long."""
    timeline = json.loads((run_dir / "timeline.json").read_text())
    for step in timeline["steps"]:
        for own in step["ranks"]:
            own["events"] = [[action, *(time / 2 for time in times)] for action, *times in own["events"]]
    replace_text(run_dir / "timeline.json", json.dumps(timeline))
    return run_dir


def test_several_runs_on_one_time_axis(trained, twice_as_fast, pipemlp):
    answer = pipemlp("timeline", trained, twice_as_fast, "--step", 10, "--output", "both.svg")
    assert (answer.code, answer.err) == (0, "")
    lines = answer.out.splitlines()
    first, second = lines.index(f"{trained}:"), lines.index(f"{twice_as_fast}:")
    heading = "zb-v, step 10: milliseconds and shares of the makespan"
    assert [lines[number + 1].strip() for number in (first, second)] == [heading, heading]
    assert first < second and lines[-1] == "wrote both.svg"
    svg = ElementTree.parse("both.svg").getroot()
    titles = [text.text for text in svg.iter(f"{SVG}text") if text.get("class") == "title"]
    assert [title.split(":")[0] for title in titles] == ["zb-v measured", "zb-v measured"]
    widths = [
        float(rect.get("width"))
        for rect in svg.iter(f"{SVG}rect")
        if rect.get("class") == "idle" and rect.get("x") == "76"
    ]
    assert widths[2:4] == pytest.approx([widths[0] / 2] * 2, abs=0.02)


def test_the_picture_of_the_readme_is_what_its_command_draws():
    (step,) = re.findall(r"pipemlp timeline runs/1f1b runs/zb-v --step (\d+)", (ROOT / "README.md").read_text())
    svg = ElementTree.parse(ROOT / "docs" / "images" / "timeline.svg").getroot()
    titles = [text.text.strip() for text in svg.iter(f"{SVG}text") if text.get("class") == "title"]
    sizes = ("2 stages, 4 micro-batches", "2 stages x 2 virtual stages, 4 micro-batches")
    assert titles == [
        f"{name} measured: {size}, step {step}" for name, size in zip(("1f1b", "zb-v"), sizes, strict=True)
    ]


def test_several_runs_as_a_trace_and_as_numbers(trained, twice_as_fast, pipemlp):
    answer = pipemlp("timeline", trained, twice_as_fast, "--json", "--output", "both.json")
    assert (answer.code, answer.err) == (0, "")
    whole, half = json.loads(answer.out)
    assert (whole["step"], half["step"]) == (12, 12)
    seconds = [value["replicas"][0]["makespan_seconds"] for value in (whole, half)]
    assert seconds[1] == pytest.approx(seconds[0] / 2, rel=1e-3)
    events = json.loads(Path("both.json").read_text())["traceEvents"]
    assert [event["pid"] for event in events if event["name"] == "process_name"] == [0, 1]


def test_several_runs_leave_no_file_that_is_not_asked_for(trained, run_dir, pipemlp):
    before = [set(folder.iterdir()) for folder in (trained, run_dir, Path())]
    answer = pipemlp("timeline", trained, run_dir)
    assert (answer.code, answer.err) == (0, "") and answer.out.count("\nmakespan ") == 2 and "wrote" not in answer.out
    assert [set(folder.iterdir()) for folder in (trained, run_dir, Path())] == before


def test_what_is_wrong_with_one_of_several_is_said(trained, run_dir, pipemlp):
    timeline = json.loads((run_dir / "timeline.json").read_text())
    replace_text(run_dir / "timeline.json", json.dumps(timeline | {"steps": timeline["steps"][:2]}))
    for arguments, message in {
        (trained, "nowhere"): "nowhere: no such folder",
        (trained, "."): ".: not a run directory (config.resolved.yaml is missing)",
        (trained, run_dir, "--step", 12): f"step: 12 was not recorded in {run_dir}; recorded: 4, 6",
    }.items():
        answer = pipemlp("timeline", *arguments, "--output", "both.svg")
        assert (answer.code, answer.out, answer.err.strip()) == (2, "", f"pipemlp: {message}")
        assert not Path("both.svg").exists()


def test_what_is_wrong_is_said(run_dir, pipemlp):
    def refusal(*arguments: object) -> tuple[int, str]:
        answer = pipemlp("timeline", *arguments)
        assert answer.out == ""
        return answer.code, answer.err.strip().removeprefix("pipemlp: ")

    assert refusal("nowhere") == (2, "nowhere: no such folder")
    assert refusal(".") == (2, ".: not a run directory (config.resolved.yaml is missing)")
    steps = "recorded: 4, 6, 8, 10, 12"
    assert refusal(run_dir, "--step", 5) == (2, f"step: 5 was not recorded in {run_dir}; {steps}")
    ending = ".svg (picture) or .json (Chrome trace, for ui.perfetto.dev)"
    assert refusal(run_dir, "--output", "a.png") == (2, f"output: a.png: use a name that ends in {ending}")
    where = Path("no") / "such" / "a.svg"
    assert refusal(run_dir, "--output", where) == (2, f"output: {where}: cannot be written: No such file or directory")
    plan = json.loads((run_dir / "plan.json").read_text())
    replace_text(run_dir / "plan.json", json.dumps(plan | {"costs": None}))
    assert refusal(run_dir) == (3, f"{run_dir / 'plan.json'}: holds no costs of the schedule's actions")
    shorter = plan["costs"] | {"forward": [1.0]}
    replace_text(run_dir / "plan.json", json.dumps(plan | {"costs": shorter}))
    problem = "costs.forward has 1 entries; 4 virtual stages need 4"
    assert refusal(run_dir) == (3, f"{run_dir / 'plan.json'}: {problem}")
    replace_text(run_dir / "timeline.json", "{")
    code, message = refusal(run_dir)
    assert code == 3 and message.startswith(f"{run_dir / 'timeline.json'}: is not JSON: ")
    (run_dir / "timeline.json").unlink()
    code, message = refusal(run_dir)
    assert code == 2 and message.startswith(f"{run_dir}: no timeline was recorded: logging.timeline_every_steps is 0")


def test_what_is_too_large_for_a_picture_is_left_out(run_dir, pipemlp, monkeypatch):
    monkeypatch.setattr("pipemlp.schedule.render_svg.MOST_BARS", 10)
    answer = pipemlp("timeline", run_dir)
    assert answer.code == 0 and f"not written: {run_dir / 'timeline.svg'}: " in answer.out
    assert not (run_dir / "timeline.svg").exists() and (run_dir / "timeline.trace.json").exists()
    answer = pipemlp("timeline", run_dir, "--output", "a.svg")
    assert answer.code == 2 and "bars are too many for an SVG" in answer.err


def test_it_needs_no_torch(run_dir):
    code = "import sys; sys.modules.update(torch=None, deepspeed=None); from pipemlp.__main__ import main; main()"
    arguments = [sys.executable, "-c", code, "timeline", str(run_dir), "--json"]
    done = subprocess.run(arguments, capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stderr) == (0, "")
    assert json.loads(done.stdout)["step"] == 12
