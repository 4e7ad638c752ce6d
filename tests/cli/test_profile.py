"""From a profile to a plan to a run that says how far the plan was off; and what is refused on the way."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
from commands import PIPEMLP, ROOT, Started, succeed
from shared_runs import made_once

from pipemlp.planning.plan_file import parse_plan_file
from pipemlp.planning.profile import LEFT_OUT
from pipemlp.profiling.profile_file import read_profile, write_profile

PYRAMID = str(ROOT / "configs" / "pyramid.yaml")
TWO_STAGES = "parallel.stages=2"


@pytest.fixture(scope="module")
def profiled(tmp_path_factory) -> tuple[Path, str]:
    """A folder with pyramid.profile.json, and what the command printed."""

    def make(folder: Path) -> None:
        started = succeed([*PIPEMLP, "profile", PYRAMID, TWO_STAGES, "--seconds", "3"], folder)
        (folder / "out").write_text(started.out)

    folder = made_once(tmp_path_factory, "profiled", make)
    return folder, (folder / "out").read_text()


@pytest.fixture
def folder(profiled, tmp_path, monkeypatch):
    """A copy of it, the current folder."""
    shutil.copy(profiled[0] / "pyramid.profile.json", tmp_path)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_what_a_profile_prints(profiled):
    out = profiled[1]
    for part in (
        "2 ranks",
        "1 plain 30>512",
        "9 output 32>2",
        "message between stages",
        "optimizer",
        "besides, per step",
    ):
        assert part in out, part
    assert "…" not in out and out.rstrip().endswith("pyramid.profile.json")


def test_what_a_profile_holds(profiled):
    profile = read_profile(profiled[0] / "pyramid.profile.json")
    assert profile.kind_of_layer[0] == -1 and len(profile.kind_of_layer) == 10
    assert profile.machine.is_measured and not profile.machine.is_gpu
    wanted = 8  # 48 rows in six micro-batches
    for kind in profile.kinds:
        assert wanted in [measurement.rows for measurement in kind]
        for measurement in kind:
            assert measurement.kept_bytes > 0 and 0 < measurement.alone_share <= 1
    times = profile.times(wanted, 0)
    assert times.forward[0] == 0.0 and min(times.forward[1:]) > 0.0
    assert dict(profile.facts).keys() - {LEFT_OUT} == {
        "device", "ranks", "threads", "torch", "deepspeed", "model", "loss", "precision", "optimizer",
        "clipping",
    }  # fmt: skip


@pytest.mark.full  # the commands of the README, which run in the short run too
def test_plan_and_train_by_it(folder):
    planned = succeed([*PIPEMLP, "plan", PYRAMID, "--ranks", "2", "--json"], folder)
    answer = json.loads(planned.out)
    assert answer["measured"] is True and answer["pipeline"] in (True, False)
    kept = parse_plan_file((folder / "pyramid.plan.json").read_text())
    assert kept.prediction.is_measured
    done = succeed(
        [*PIPEMLP, "train", PYRAMID, "--plan", "pyramid.plan.json", "training.epochs=4", "run.dir=run"], folder
    )
    assert "predicted and measured" in done.out and "step: " in done.out and "rank 1: bubble " in done.out
    report = json.loads((folder / "run" / "prediction.json").read_text())
    assert report["predicted_seconds"] == pytest.approx(kept.prediction.step_seconds)
    assert report["measured_seconds"] > 0
    assert report["error"] == pytest.approx(report["predicted_seconds"] / report["measured_seconds"] - 1)
    assert report["num_timed"] > 10 and report["is_measured"] is True
    assert tuple(rank["predicted_peak_bytes"] for rank in report["ranks"]) == tuple(
        kept.prediction.counted_bytes[rank["rank"] // kept.parallel.data_parallel] for rank in report["ranks"]
    )
    for rank in report["ranks"]:
        assert rank["predicted_peak_bytes"] == pytest.approx(rank["measured_peak_bytes"], rel=0.05)
        assert 0 <= rank["measured_bubble"] < 1
    again = parse_plan_file((folder / "run" / "plan.json").read_text())  # the run's plan is a plan file too
    assert again.parallel == kept.parallel and again.costs == kept.costs


def test_another_model_is_refused(folder):
    ended = Started([*PIPEMLP, "plan", PYRAMID, "--ranks", "2", "model.activation=gelu", "optimizer=sgd"], folder)
    assert ended.wait() == 2
    assert "is a profile of something else: model is 10 layers" in ended.err
    assert "optimizer is adamw with weight decay there and sgd here; profile again" in ended.err


def test_a_plan_of_another_config_is_refused(folder):
    succeed([*PIPEMLP, "plan", PYRAMID, "--ranks", "2"], folder)
    arguments = ["--plan", "pyramid.plan.json", "training.global_batch_size=96", "precision=bf16"]
    ended = Started([*PIPEMLP, "train", PYRAMID, *arguments], folder)
    assert ended.wait() == 2
    assert "--plan: training.global_batch_size: the plan is for 48, and here it is 96" in ended.err
    assert "--plan: precision: the plan is for fp32, and here it is bf16" in ended.err


def test_another_device_is_refused_unless_it_is_named(folder):
    path = folder / "pyramid.profile.json"
    profile = read_profile(path)
    facts = dict(profile.facts) | {"device": "NVIDIA H200"}
    write_profile(path, replace(profile, facts=tuple(facts.items())))
    ended = Started([*PIPEMLP, "plan", PYRAMID, "--ranks", "2", "--profile", path.name], folder)
    assert ended.wait() == 2 and "device is NVIDIA H200 there and " in ended.err
    succeed([*PIPEMLP, "plan", PYRAMID, "--ranks", "2", "--profile", path.name, "--device", "nvidia h200"], folder)
