"""`pipemlp simulate`: what it prints, what it writes, and what it refuses."""

import io
import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from xml.etree import ElementTree

import pytest
from commands import ROOT
from rich.console import Console

import pipemlp as package
from pipemlp.cli.simulation_report import show
from pipemlp.config.errors import ConfigError
from pipemlp.planning.exploring import explore
from pipemlp.planning.stage_costs import StageCosts
from pipemlp.schedule.methods import METHODS, make_schedule
from pipemlp.schedule.torch_csv import read_csv, write_csv

ONE_F_ONE_B = ("simulate", "--schedule", "1f1b", "--stages", 4, "--micro-batches", 8)


def sized(name: str, num_stages: object = 4, num_micro_batches: object = 8) -> tuple[object, ...]:
    return "simulate", "--schedule", name, "--stages", num_stages, "--micro-batches", num_micro_batches


def test_the_report(pipemlp):
    answer = pipemlp(*ONE_F_ONE_B)
    assert (answer.code, answer.err) == (0, "")
    lines = answer.out.splitlines()
    assert lines[:6] == [
        "1f1b: 4 stages, 8 micro-batches; makespan 33, bubble 27.3%",
        "",
        "stage 0  F0 F1 F2 F3 .. .. .. .. .. .. B0--- F4 B1--- F5 B2--- F6 B3--- F7 B4--- .. B5--- .. B6--- .. B7---",
        "stage 1  .. F0 F1 F2 .. .. .. .. B0--- F3 B1--- F4 B2--- F5 B3--- F6 B4--- F7 B5--- .. B6--- .. B7--- .. ..",
        "stage 2  .. .. F0 F1 .. .. B0--- F2 B1--- F3 B2--- F4 B3--- F5 B4--- F6 B5--- F7 B6--- .. B7--- .. .. .. ..",
        "stage 3  .. .. .. F0 B0--- F1 B1--- F2 B2--- F3 B3--- F4 B4--- F5 B5--- F6 B6--- F7 B7--- .. .. .. .. .. ..",
    ]
    assert [line.split() for line in lines if line.split()[-1:] in (["4"], ["3"], ["2"], ["1"])][:4] == [
        [str(stage), "24", "27.3%", str(4 - stage)] for stage in range(4)
    ]
    assert "makespan 33; without any bubble it would be 24; bubble 27.3%" in lines
    assert "any order with this placement takes at least 27; this one takes 22.2% more" in lines
    assert "critical path: 0F0 > 1F0 > 2F0 > 3F0 to 3B7 (16 actions) > 2B7 > 1B7 > 0B7" in lines
    assert any(line.startswith("links: cannot hang, even if each send blocks until it is received") for line in lines)
    (title,) = [number for number, line in enumerate(lines) if line.startswith("the same sizes by other schedules")]
    assert sorted(line.split()[0] for line in lines[title + 4 :] if line.strip()) == sorted(METHODS)


def test_the_numbers_as_json(pipemlp):
    answer = pipemlp(*sized("zb-v"), "--json")
    assert (answer.code, answer.err) == (0, "")
    value = json.loads(answer.out)
    assert value["makespan"] == value["lower_bound"] == 25.5
    assert value["bubble_fraction"] == pytest.approx(0.0588, abs=1e-4)
    assert value["peak_in_flight"] == 4
    assert (value["stages"], value["virtual_stages"], value["micro_batches"], value["placement"]) == (4, 2, 8, "v")
    assert value["stage_busy"] == [24.0] * 4 and value["stage_peak_in_flight"] == [4.0] * 4
    assert sum(value["stage_bubble_fraction"]) / 4 == pytest.approx(value["bubble_fraction"])
    assert value["critical_path"][0] == "0F0" and value["blocking_makespan"] >= value["makespan"]


@pytest.mark.parametrize("name", METHODS)
def test_every_schedule(pipemlp, name):
    answer = pipemlp(*sized(name, 3, 5), "--hop", 0.1)
    assert (answer.code, answer.err) == (0, "")
    assert answer.out.startswith(f"{name}: 3 stages")


def test_costs_are_for_a_whole_stage(pipemlp):
    costs = "--forward", 0.02, "--input-gradient", 0.03, "--weight-gradient", 0.01
    for name in ("1f1b", "zb-v"):
        value = json.loads(pipemlp(*sized(name), *costs, "--json").out)
        assert value["stage_busy"] == pytest.approx([8 * 0.06] * 4)
        assert value["ideal"] == pytest.approx(8 * 0.06)


@pytest.mark.parametrize(("name", "num_hops"), [("1f1b", 2), ("zb-v", 4)])  # a V turns within the second stage
def test_hops_are_between_stages_only(pipemlp, name, num_hops):
    near, far = (json.loads(pipemlp(*sized(name, 2, 1), "--hop", hop, "--json").out) for hop in (0, 0.1))
    assert far["makespan"] - near["makespan"] == pytest.approx(num_hops * 0.1)


def test_files(pipemlp):
    for ending in ("svg", "json", "csv"):
        answer = pipemlp(*sized("zb-v"), "--output", f"picture.{ending}")
        assert answer.code == 0 and answer.out.endswith(f"\nwrote picture.{ending}\n")
    assert ElementTree.parse("picture.svg").getroot().tag.endswith("svg")
    events = json.loads(Path("picture.json").read_text())["traceEvents"]
    assert len([event for event in events if event["ph"] == "X"]) == 4 * 2 * 3 * 8
    assert Path("picture.csv").read_text() == write_csv(make_schedule("zb-v", 4, 8))


def test_a_schedule_of_ones_own(pipemlp):
    Path("mine.csv").write_text(write_csv(make_schedule("zb-v", 4, 8)))
    by_name = json.loads(pipemlp(*sized("zb-v"), "--json").out)
    for sizes in ((), ("--stages", 4), ("--stages", 4, "--micro-batches", 8, "--virtual-stages", 2)):
        answer = pipemlp("simulate", "--schedule", "mine.csv", *sizes, "--json")
        assert json.loads(answer.out) == by_name | {"schedule": "mine.csv"}


def test_on_a_terminal_it_is_coloured():
    schedule = replace(make_schedule("zb-v", 4, 8), name="[red]mine[/].csv")
    console = Console(force_terminal=True, width=120, file=io.StringIO(), highlight=False)
    show(explore(package.simulate(schedule), StageCosts()), console)
    printed = console.file.getvalue()
    assert "\x1b[37;44mF0" in printed and printed.count("[red]mine[/].csv") == 2


def test_zb_auto_holds_its_memory(pipemlp):
    value = json.loads(pipemlp(*sized("zb-auto"), "--memory", 3, "--json").out)
    assert value["peak_in_flight"] <= 3 and value["makespan"] < 33
    assert "the same sizes" not in pipemlp(*sized("zb-auto"), "--memory", 3).out  # no other holds so little


def test_many_stages_and_micro_batches_are_drawn_in_short(pipemlp):
    answer = pipemlp(*sized("1f1b", 64, 512))
    assert answer.code == 0
    assert "(16 of the 64 stages)" in answer.out and "\nstage 63 " in answer.out
    assert "... 119 more stages ..." in answer.out
    assert "links: cannot hang by construction" in answer.out and "the same sizes" not in answer.out


BAD: dict[str, tuple[tuple[object, ...], str]] = {
    "unknown schedule": (sized("zbv"), "schedule: unknown schedule 'zbv'; did you mean zb-v?"),
    "no stages": (sized("1f1b", 0), "stages: 0 is too small; at least 1"),
    "negative micro-batches": (sized("1f1b", 4, -3), "micro_batches: -3 is too small; at least 1"),
    "no virtual stages": ((*sized("zb-v"), "--virtual-stages", 0), "virtual_stages: 0 is too small; at least 1"),
    "virtual stages of zb-v": ((*sized("zb-v"), "--virtual-stages", 3), "schedule: zb-v with 3 virtual stages per"),
    "virtual stages of 1f1b": ((*sized("1f1b"), "--virtual-stages", 2), "schedule: 1f1b with 2 virtual stages per"),
    "sizes left out": (("simulate", "--schedule", "zb-v"), "schedule: zb-v is for any sizes; give stages and"),
    "NaN": ((*ONE_F_ONE_B, "--forward", "nan"), "forward: nan is no cost; it must be finite and above 0"),
    "infinite": ((*ONE_F_ONE_B, "--weight-gradient", "inf"), "weight_gradient: inf is no cost; it must be finite"),
    "no cost": ((*ONE_F_ONE_B, "--input-gradient", 0), "input_gradient: 0 is no cost; it must be finite and above 0"),
    "too small a cost": (
        (*ONE_F_ONE_B, "--forward", "1e-17"),
        "forward: 1e-17 is too small; between 1e-12 and 1e+12",
    ),
    "too large a cost": ((*ONE_F_ONE_B, "--hop", "1e308"), "hop: 1e+308 is too large; between 1e-12 and 1e+12"),
    "negative hop": ((*ONE_F_ONE_B, "--hop", -0.1), "hop: -0.1 is no cost; it must be finite and at least 0"),
    "absurd sizes": (
        sized("zb-v", 10**9, 10**12),
        "schedule: 1000000000 stages x 2 virtual stages x 1000000000000 micro-batches make "
        "6,000,000,000,000,000,000,000 actions; at most 10,000,000",
    ),
    "memory too small for any": (
        (*sized("zb-auto"), "--memory", 0.5),
        "memory: no order of zb-auto holds 0.5; the smallest that one does is 1",
    ),
    "memory too small for this": (
        (*ONE_F_ONE_B, "--memory", 3),
        "memory: 1f1b holds 4 on its fullest stage, more than 3; try zb-auto",
    ),
    "negative memory": ((*ONE_F_ONE_B, "--memory", -1), "memory: -1 is no size; it must be finite and above 0"),
    "ending": ((*ONE_F_ONE_B, "--output", "a.png"), "output: a.png: use a name that ends in .svg (picture), .json"),
    "no such folder": ((*ONE_F_ONE_B, "--output", "no/a.svg"), "output: no/a.svg: No such file or directory"),
    "too large a picture": ((*sized("1f1b", 64, 512), "--output", "a.svg"), "output: a.svg: 65,536 bars are too many"),
    "no such file": (("simulate", "--schedule", "none.csv"), "none.csv: no such file"),
    "folder": (("simulate", "--schedule", "folder.csv"), "folder.csv: Is a directory"),
    "empty file": (("simulate", "--schedule", "empty.csv"), "empty.csv: "),
    "no text": (("simulate", "--schedule", "binary.csv"), "binary.csv: is no text; a schedule is a CSV of actions"),
    "illegal action": (("simulate", "--schedule", "wrong.csv"), "wrong.csv: row 1, column 2: 0B1 stands without 0F1"),
    "other micro-batches": (
        ("simulate", "--schedule", "mine.csv", "--micro-batches", 16),
        "mine.csv: is for 4 stages x 2 virtual stages, 8 micro-batches; 16 micro-batches were asked for",
    ),
    "other stages": (
        ("simulate", "--schedule", "mine.csv", "--stages", 2, "--virtual-stages", 2),
        "mine.csv: is for 4 stages x 2 virtual stages, 8 micro-batches; 2 stages, 2 virtual stages were asked for",
    ),
}


@pytest.mark.parametrize(("arguments", "message"), BAD.values(), ids=BAD.keys())
def test_what_is_refused(pipemlp, arguments, message):
    good = write_csv(make_schedule("zb-v", 4, 8))
    Path("folder.csv").mkdir()
    Path("empty.csv").write_text("")
    Path("binary.csv").write_bytes(b"\xff\xfe\x00")
    Path("mine.csv").write_text(good)
    Path("wrong.csv").write_text(good.replace("0F1", "0B1"))
    answer = pipemlp(*arguments)
    assert (answer.code, answer.out) == (2, "")
    (line,) = answer.err.splitlines()
    assert line.startswith(f"pipemlp: {message}"), line
    assert not list(Path().glob("a.*"))


def test_all_problems_at_once(pipemlp):
    answer = pipemlp(*sized("1f1b", 0, 0))
    assert answer.code == 2 and len(answer.err.splitlines()) == 2


@pytest.mark.parametrize("arguments", [("--stages", "many"), ()])
def test_what_the_parser_refuses(pipemlp, arguments):
    assert pipemlp("simulate", *arguments).code == 2


def test_help_teaches(pipemlp):
    answer = pipemlp("simulate", "--help")
    assert answer.code == 0
    assert "Example: pipemlp simulate --schedule zb-v --stages 4" in " ".join(answer.out.split())
    for name in (*METHODS, "--hop", "--memory", ".csv"):
        assert name in answer.out


def test_from_python(tmp_path):
    schedule = make_schedule("zb-h1", 4, 8)
    path = tmp_path / "mine.csv"
    path.write_text(write_csv(schedule))
    by_name = package.simulate("zb-h1", 4, 8, hop=0.1)
    assert package.simulate(schedule, hop=0.1) == by_name
    assert package.simulate(path, hop=0.1).starts == by_name.starts
    assert read_csv(path.read_text(), "zb-h1") == schedule
    with pytest.raises(ConfigError, match="zb-h1: is for 4 stages, 8 micro-batches; 5 stages were asked for"):
        package.simulate(schedule, 5)
    broken = schedule.actions[0][::-1], *schedule.actions[1:]
    with pytest.raises(ConfigError, match="zb-h1: row 1, column 1: "):
        package.simulate(type(schedule)("zb-h1", 4, 1, 8, "loop", broken))


CODE = """
import importlib.abc, sys

BLOCKED = {"torch", "deepspeed", "torchmetrics"}

class Refuse(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in BLOCKED:
            raise AssertionError(f"{name} is imported")

sys.meta_path.insert(0, Refuse())
from pipemlp.__main__ import main

sys.argv = "pipemlp simulate --schedule zb-auto --stages 2 --micro-batches 4 --output a.svg".split()
main()
"""


def test_it_needs_no_torch(tmp_path):
    done = subprocess.run(
        [sys.executable, "-c", CODE],
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("zb-auto: 2 stages") and (tmp_path / "a.svg").is_file()
