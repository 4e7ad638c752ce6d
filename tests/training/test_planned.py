"""Runs that follow a plan file: what is said of it before they start."""

import shlex
from dataclasses import replace
from pathlib import Path

import pytest
from commands import ROOT

from pipemlp.config import load_config
from pipemlp.config.errors import ConfigError
from pipemlp.training import profile_launch
from pipemlp.training.launch import launch_command
from pipemlp.training.planner import plan
from pipemlp.training.planning import planning_inputs
from pipemlp.training.preparation import prepare_run
from pipemlp.training.profile_launch import profile_first
from pipemlp.training.startup import read_plan_file

DIGITS = str(ROOT / "configs" / "digits.yaml")


@pytest.fixture
def config(tmp_path, monkeypatch):
    """The digits; the current folder is empty."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return load_config(DIGITS)


@pytest.fixture
def planned(config, tmp_path):
    """A plan for two ranks of this machine, read from a file."""
    plan(config, 2).write("two.plan.json")
    return read_plan_file(tmp_path / "two.plan.json")


def test_the_promise_of_memory_is_the_plan_s(config, planned):
    promised = replace(planned, prediction=replace(planned.prediction, counted_bytes=(5.0, 7.0)))
    prediction = prepare_run(config, planned=promised).plan.prediction
    assert prediction is not None and prediction.counted_bytes == (5.0, 7.0)


def test_a_plan_for_another_device_is_run_with_a_warning(config, planned):
    assert not any("warning" in note for note in prepare_run(config, planned=planned).notes)
    (note,) = (
        note for note in prepare_run(config, planned=replace(planned, device="h100-80gb")).notes if "warning" in note
    )
    assert note.startswith("warning: --plan: the plan is for h100-80gb, and this is ")


def test_what_is_wrong_in_the_plan_is_not_blamed_on_the_config(config, planned):
    wrong = replace(planned, parallel=planned.parallel.model_copy(update={"micro_batches": 7}))
    with pytest.raises(ConfigError) as caught:
        prepare_run(config, planned=wrong)
    assert DIGITS in str(caught.value)  # the batch stands in the config
    wrong = replace(planned, parallel=planned.parallel.model_copy(update={"stages": 30}))
    with pytest.raises(ConfigError) as caught:
        prepare_run(config, planned=wrong)
    assert f"{planned.file}: parallel." in str(caught.value) and DIGITS not in str(caught.value)


@pytest.fixture
def automatic(config, monkeypatch):
    """The digits with `parallel: auto`, on a machine of two cores; beside a profile that was damaged."""
    monkeypatch.setattr("pipemlp.training.planning.num_cores", lambda: 2)
    Path("digits.profile.json").write_text("{")
    return load_config(DIGITS, ["parallel=auto"])


def test_auto_is_planned_for_all_devices(automatic):
    assert planning_inputs(automatic).num_ranks == 2
    assert plan(automatic, device="cpu").num_ranks == 2
    assert shlex.split(launch_command(automatic, Path(DIGITS)))[1:3] == ["--num_gpus", "2"]


def test_a_profile_that_does_not_belong_is_not_used_and_that_is_said(automatic, config):
    reason = "cpu's data sheet; not measured: digits.profile.json: is no profile, or was cut off: "
    assert any(reason in note for note in prepare_run(automatic).notes)
    balanced = load_config(DIGITS, ["parallel.partition=balanced"])
    assert any(f"parallel.partition: balanced; {reason}" in note for note in prepare_run(balanced).notes)


def test_a_profile_that_does_not_belong_is_measured_again_and_that_is_said(automatic, monkeypatch, capsys):
    asked = []
    monkeypatch.setattr(profile_launch, "launch_profile", lambda *arguments: asked.append(arguments[1]) or 0)
    profile_first(automatic)
    assert asked == [Path("digits.profile.json")]
    assert capsys.readouterr().out.startswith("parallel: auto: digits.profile.json: is no profile, or was cut off: ")
    asked[0].unlink()
    profile_first(automatic)
    assert capsys.readouterr().out.startswith("parallel: auto: profiling for about ")
