"""`pipemlp plan`: what it prints and writes, and what it refuses."""

import json
import os
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from commands import ROOT

from pipemlp.config.errors import ConfigError
from pipemlp.planning.devices import DEVICES
from pipemlp.planning.plan_file import parse_plan_file
from pipemlp.profiling.here import gpu_name
from pipemlp.training.cost_sources import device_of_model, local_data_sheet
from pipemlp.training.sizes import size_of

PYRAMID = str(ROOT / "configs" / "pyramid.yaml")
LARGE = str(ROOT / "configs" / "large_8gpu.yaml")
WIDTHS = ("model.input_width=30", "model.output_width=2")
KEYS = {
    "stages",
    "virtual_stages",
    "data_parallel",
    "micro_batches",
    "schedule",
    "zero_stage",
    "recompute",
    "boundaries",
    "cut_distance",
    "step_seconds",
    "samples_per_second",
    "bubble_fraction",
    "peak_bytes",
    "fits",
}


def test_the_report(pipemlp, monkeypatch):
    monkeypatch.setenv("COLUMNS", "100")
    answer = pipemlp("plan", PYRAMID, *WIDTHS, "--ranks", 4, "--nodes", 2, "--device", "cpu", "--explain")
    assert (answer.code, answer.err) == (0, "")
    lines = answer.out.splitlines()
    assert lines[0] == "10 layers, 48 rows a step, on 4 ranks of cpu, 14.9 GiB each"
    assert "not measured" in lines[1] and "floor" in lines[1]
    tables = [line for line in lines if line.startswith(" ") and "│" not in line and ": " not in line]
    assert max(map(len, tables)) <= 100 and not any("…" in line for line in tables)
    for part in (
        "the fastest ways on 4 ranks",
        "an average rank",
        "plain data parallelism (1 stage x 4 replicas",
        "2 nodes of 2 ranks: ",
        "one rank alone: ",
        "step time over memory per rank",
        "* the choice",
        "memory per rank (G = GiB)",
        "optim.",
        "ways considered",
        "the cut: ",
        "one micro-batch by stage",
        "the fastest of every kind",
    ):
        assert part in answer.out, part
    assert lines[-1].startswith("wrote pyramid.plan.json; run it: pipemlp train ")
    assert lines[-1].endswith(f"{' '.join(WIDTHS)} --plan pyramid.plan.json")
    assert Path("pyramid.plan.json").is_file()


def test_the_numbers_as_json_and_the_plan_file(pipemlp):
    answer = pipemlp("plan", PYRAMID, *WIDTHS, "--ranks", 2, "--top", 3, "--json", "--output", "mine.json")
    assert (answer.code, answer.err) == (0, "")
    value = json.loads(answer.out)
    assert {"candidates", "pipeline", "reason", "one_rank", "data_parallel", "does_not_fit", "measured"} <= set(value)
    assert value["pipeline"] is True and value["measured"] is False and len(value["candidates"]) == 3
    for each in (*value["candidates"], value["one_rank"], value["data_parallel"]):
        assert set(each) >= KEYS
        assert each["samples_per_second"] == pytest.approx(48 / each["step_seconds"])
        assert sum(each["parts_seconds"].values()) == pytest.approx(each["step_seconds"])
    seconds = [each["step_seconds"] for each in value["candidates"]]
    assert seconds == sorted(seconds)
    first = value["candidates"][0]
    assert first["speed_up"] == pytest.approx(value["one_rank"]["step_seconds"] / first["step_seconds"])
    kept = parse_plan_file(Path("mine.json").read_text(encoding="utf-8"))
    parallel = kept.parallel
    assert (parallel.stages, parallel.data_parallel, parallel.micro_batches, parallel.schedule) == (
        first["stages"],
        first["data_parallel"],
        first["micro_batches"],
        first["schedule"],
    )
    assert list(parallel.partition) == first["boundaries"]
    assert kept.prediction.step_seconds == pytest.approx(first["step_seconds"])


def test_what_runs_it_can_be_pasted(pipemlp):
    answer = pipemlp("plan", PYRAMID, *WIDTHS, "model.hidden=[64, 64]", "parallel.stages=2", "--output", "my plan.json")
    command = answer.out.splitlines()[-1].split("run it: ")[1]
    wanted = ["pipemlp", "train", PYRAMID, *WIDTHS, "model.hidden=[64, 64]", "--plan", "my plan.json"]
    assert shlex.split(command) == wanted  # without parallel.stages, which the plan decides


def test_do_not_pipeline(pipemlp):
    much = "training.global_batch_size=65536"
    answer = pipemlp("plan", PYRAMID, *WIDTHS, much, "model.hidden=[64,64]", "--ranks", 2, "--device", "cpu")
    assert answer.code == 0 and "\ndo not pipeline: 1 stage x 2 replicas" in answer.out
    alone = pipemlp("plan", PYRAMID, *WIDTHS, "--ranks", 1, "--json")
    value = json.loads(alone.out)
    assert value["pipeline"] is False and "there is one rank" in value["reason"]
    assert value["candidates"][0]["speed_up"] == 1.0


def test_ranks_of_the_config_and_memory_that_prunes(pipemlp):
    small = "training.global_batch_size=8", "parallel.stages=2"
    value = json.loads(pipemlp("plan", PYRAMID, *WIDTHS, *small, "--json").out)
    assert value["ranks"] == 2
    cap = min(each["peak_bytes"] for each in value["candidates"]) * 0.999
    tight = json.loads(pipemlp("plan", PYRAMID, *WIDTHS, *small, "--json", "--memory", f"{int(cap)}").out)
    assert all(each["peak_bytes"] <= cap for each in tight["candidates"])
    assert tight["does_not_fit"]
    for each in tight["does_not_fit"]:
        assert each["missing_bytes"] == each["peak_bytes"] - int(cap) > 0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--ranks", 11), "ranks: 11 ranks are stages x replicas with at most 9 stages"),
        (("--ranks", 0), "ranks: 0 is too small; at least 1"),
        (("--top", 0), "top: 0 is too small; at least 1"),
        (("--nodes", 0), "nodes: 0 is too small; at least 1"),
        (("--device", "h100"), "device: unknown device 'h100'; did you mean h100-80gb? There are a100-40gb, "),
        (("--memory", "5X"), "memory: '5X' is no size; write such as 80G (80 x 10^9 bytes) or 16GiB (16 x 2^30)"),
        (("--memory", "0G"), "memory: '0G' is no size"),
        (("--ranks", 4, "--nodes", 3), "nodes: 3 nodes cannot share 4 ranks evenly (4 % 3 = 1); nearest valid"),
        (("--profile", "a.json"), "a.json: no such file"),
        (("--output", "nowhere/a.json"), "output: nowhere/a.json: there is no folder nowhere"),
        (("--ranks", 2, "--output", "."), "output: .: cannot be written: "),
        (("--ranks", 2, "--memory", "1MiB"), "memory: nothing fits into 1 MiB per rank. The nearest is 2 stages x 1 "),
    ],
)  # fmt: skip
def test_what_it_refuses(pipemlp, arguments, message):
    answer = pipemlp("plan", PYRAMID, *WIDTHS, *arguments)
    assert (answer.code, answer.out) == (2, "")
    assert answer.err.startswith(f"pipemlp: {message}"), answer.err


def test_all_problems_of_the_command_at_once(pipemlp):
    answer = pipemlp("plan", PYRAMID, "--ranks", -1, "--top", 0, "--device", "gpu")
    assert [line.split(":")[1].strip() for line in answer.err.splitlines()] == ["ranks", "top", "device"]


def test_what_is_missing_is_itemised_and_a_remedy_named(pipemlp):
    answer = pipemlp("plan", PYRAMID, *WIDTHS, "--ranks", 2, "--memory", "4MiB")
    assert answer.code == 2
    for part in ("too much (parameter", "optimizer", "activation", "It would fit on", "On 2 ranks, "):
        assert part in answer.err, part


@pytest.mark.parametrize(
    ("text", "num_bytes"),
    [
        ("80G", 80e9),
        ("80GB", 80e9),
        ("16GiB", 2**34),
        ("1.5T", 1.5e12),
        ("512mib", 2**29),
        ("1000", 1000),
        ("2 K", 2000),
    ],
)
def test_sizes(text, num_bytes):
    assert size_of(text) == num_bytes


@pytest.mark.parametrize("text", ["", "G", "-1G", "1Q", "iB", "5iB", "1e9", "80 G B"])
def test_what_is_no_size(text):
    with pytest.raises(ConfigError, match="is no size"):
        size_of(text)


@pytest.mark.parametrize(
    ("model", "name"),
    [
        ("NVIDIA H100 80GB HBM3", "h100-80gb"),
        ("NVIDIA H200", "h200-141gb"),
        ("NVIDIA A100-SXM4-40GB", "a100-40gb"),
        ("NVIDIA A100-SXM4-80GB", "a100-80gb"),
        ("NVIDIA GeForce RTX 4090", "rtx4090-24gb"),
        ("NVIDIA L4", "l4-24gb"),
        ("NVIDIA L40S", None),
        ("Tesla T4", None),
    ],
)
def test_gpus_by_what_drivers_call_them(model, name):
    found = device_of_model(model)
    assert (found.name if found else None) == name


def test_the_machine_at_hand(tmp_path, monkeypatch):
    from pipemlp.config import load_config
    from pipemlp.training import cost_sources

    entry = tmp_path / "0000:01:00.0"
    entry.mkdir()
    (entry / "information").write_text("Model: \t\t NVIDIA H200\nIRQ: 1\n")
    monkeypatch.setattr(cost_sources, "gpu_name", lambda: gpu_name(tmp_path))
    assert local_data_sheet(load_config(PYRAMID, ["run.device=cpu"])) is DEVICES["cpu"]
    monkeypatch.setattr(cost_sources, "device_of_run", lambda wanted: "cuda")
    assert local_data_sheet(load_config(PYRAMID)) is DEVICES["h200-141gb"]
    (entry / "information").write_text("Model: unheard of\n")
    assert local_data_sheet(load_config(PYRAMID)) is DEVICES["cpu"]


CODE = """
import importlib.abc, sys
BLOCKED = {"torch", "deepspeed", "torchmetrics"}
class Refuse(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in BLOCKED:
            raise AssertionError(f"{name} is imported")
sys.meta_path.insert(0, Refuse())
from pipemlp.__main__ import main
main()
"""


def test_it_needs_no_torch(tmp_path):
    done = subprocess.run(
        [sys.executable, "-c", CODE, "plan", LARGE, "--ranks", "2", "--device", "h200-141gb", "--json",
         "model.input_width=1024", "model.output_width=100", "training.global_batch_size=64"],
        env=os.environ | {"PYTHONPATH": str(ROOT), "XDG_CACHE_HOME": str(tmp_path)},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=120,
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, "")
    assert json.loads(done.stdout)["device"] == "h200-141gb"
    assert (tmp_path / "large_8gpu.plan.json").is_file()


def test_a_plan_decides_parallel(pipemlp):
    answer = pipemlp("train", PYRAMID, "parallel.stages=3", "training.epochs=1", "--plan", "two.plan.json")
    assert (answer.code, answer.out) == (2, "")
    assert answer.err == (
        "pipemlp: --plan: two.plan.json: the plan decides parallel; leave out parallel.stages=3, or the plan\n"
    )


def test_stages_that_are_left_out_are_counted(pipemlp):
    deep = "model.hidden=[64" + ", 64" * 23 + "]", "training.global_batch_size=2", "optimizer=sgd"
    answer = pipemlp("plan", PYRAMID, *WIDTHS, *deep, "--ranks", 25, "--device", "cpu", "--explain")
    assert answer.code == 0, answer.err
    assert [line.split()[:3] for line in answer.out.splitlines() if line.split()[:1] == ["..."]] == [
        ["...", "9", "more"]
    ] * 2


def test_a_profile_on_far_too_many_ranks(pipemlp):
    answer = pipemlp("profile", PYRAMID, *WIDTHS, "run.device=cpu", "--ranks", 5000)
    assert (answer.code, answer.out) == (2, "")
    assert answer.err.startswith("pipemlp: ranks: 5000 on ") and "; at most " in answer.err
