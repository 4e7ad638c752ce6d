"""The folder of a run: its name, and never another run's."""

import json
import os
from pathlib import Path

import pytest

from pipemlp.config.errors import ConfigError
from pipemlp.config.loading import load_config
from pipemlp.config.root import RunConfig
from pipemlp.launching.status import read_status
from pipemlp.planning.layers import describe_layers
from pipemlp.planning.making import make_plan
from pipemlp.planning.resolve import resolve
from pipemlp.planning.shapes import DataShape
from pipemlp.training import run_directory
from pipemlp.training.run_directory import CONFIG_FILE, create_run_directory, run_name, write_start


@pytest.fixture(autouse=True)
def _here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(run_directory.time, "strftime", lambda form, *_: "20260102-030405")


def config_of(**run):
    return RunConfig.model_validate({"data": {"source": "digits"}, "model": {"hidden": [8]}, "run": run})


def refused(config) -> str:
    with pytest.raises(ConfigError) as caught:
        create_run_directory(config)
    return str(caught.value)


def loaded(name: str, *overrides: str) -> RunConfig:
    Path(name).write_text("data:\n  source: digits\nmodel:\n  hidden: [8]\n")
    return load_config(name, overrides)


def test_the_name_is_given_or_that_of_the_file():
    assert run_name(config_of(name="wide")) == "wide"
    assert run_name(config_of()) == "run"
    assert run_name(loaded("deep.yaml")) == "deep"
    assert run_name(loaded("deep.v2.yaml", "run.name=other")) == "other"
    assert run_name(loaded(CONFIG_FILE)) == "config"


def test_an_automatic_folder_is_named_by_run_and_time(tmp_path):
    assert create_run_directory(loaded("deep.yaml")) == tmp_path / "runs" / "deep-20260102-030405"


def test_a_taken_automatic_folder_gets_a_number(tmp_path):
    names = [create_run_directory(config_of(name="v1.5")).name for _ in range(3)]
    assert names == ["v1.5-20260102-030405", "v1.5-20260102-030405-2", "v1.5-20260102-030405-3"]
    assert sorted(os.listdir(tmp_path / "runs")) == names


def test_a_given_folder_is_made_with_its_parents(tmp_path):
    assert create_run_directory(config_of(dir="a/b/c")) == tmp_path / "a" / "b" / "c"
    assert (tmp_path / "a" / "b" / "c").is_dir()


def test_an_existing_empty_folder_is_fine(tmp_path):
    (tmp_path / "mine").mkdir()
    assert create_run_directory(config_of(dir="mine")) == tmp_path / "mine"


def test_another_runs_folder_is_refused():
    Path("mine").mkdir()
    Path("mine", CONFIG_FILE).touch()
    message = "run.dir: mine: holds another run; name a new folder, or leave run.dir out"
    assert refused(config_of(dir="mine")) == message


def test_a_folder_with_something_in_it_is_refused():
    Path("mine").mkdir()
    Path("mine", "notes.txt").touch()
    message = "run.dir: mine: is not empty (notes.txt); name a new folder, or leave run.dir out"
    assert refused(config_of(dir="mine")) == message
    for name in "zyx":
        Path("mine", name).touch()
    message = "run.dir: mine: is not empty (notes.txt, x, y, ...); name a new folder, or leave run.dir out"
    assert refused(config_of(dir="mine")) == message
    assert sorted(os.listdir("mine")) == ["notes.txt", "x", "y", "z"]


def test_a_file_is_refused_and_the_override_is_named():
    Path("taken").touch()
    assert refused(config_of(dir="taken")) == "run.dir: taken: is a file; name a folder"
    assert refused(loaded("a.yaml", "run.dir=taken")) == "command line: run.dir: taken: is a file; name a folder"


def test_a_folder_that_cannot_be_made_is_refused(monkeypatch):
    Path("file").touch()
    assert refused(config_of(dir="file/run")) == "run.dir: file/run: cannot be made: Not a directory"

    def forbidden(*args, **kwargs):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(os, "mkdir", forbidden)
    assert refused(config_of(dir="mine")) == "run.dir: mine: cannot be made: Permission denied"


def test_a_folder_that_cannot_be_read_is_refused(monkeypatch):
    Path("mine").mkdir()

    def forbidden(path):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "iterdir", forbidden)
    assert refused(config_of(dir="mine")) == "run.dir: mine: cannot be read: Permission denied"


def test_what_is_known_before_the_first_step_is_written(tmp_path):
    shape = DataShape(64, (), 10, "classification", (100, 10, 10))
    config, _ = resolve(loaded("deep.yaml", "run.dir=out", "parallel.stages=2"), shape)
    plan = make_plan(config, describe_layers(config.model, shape))
    run_dir = create_run_directory(config)
    write_start(run_dir, config, plan)
    assert json.loads((run_dir / "plan.json").read_text())["boundaries"] == list(plan.boundaries)
    assert {"python", "host", "packages", "command"} <= set(json.loads((run_dir / "environment.json").read_text()))
    status = read_status(run_dir)
    assert (status.state, status.step, status.pid) == ("running", 0, os.getpid())
    again = load_config(run_dir / CONFIG_FILE)
    assert again.run.dir == "auto", "trained again, it goes to a folder of its own"
    assert again == config.model_copy(update={"run": again.run})
