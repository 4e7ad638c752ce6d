"""Checkpoints that have vanished end a resume; a run that was killed before its first one begins anew."""

import json
import shutil

import pytest

from pipemlp.checkpoint.commit import point_to
from pipemlp.checkpoint.folder import FOLDER
from pipemlp.config.errors import ModelFileError
from pipemlp.config.loading import load_config
from pipemlp.launching.outcome import preempted_at_start
from pipemlp.launching.status import read_status, write_status
from pipemlp.training.run_directory import METRICS_FILE
from pipemlp.training.startup import begin, begin_or_resume, prepare_locally

CONFIG = """
data: {source: wine}
model: {hidden: [8]}
training: {steps: 100, global_batch_size: 16}
checkpoint: {every_steps: 10}
run: {dir: run, device: cpu}
"""


@pytest.fixture
def run(tmp_path, monkeypatch):
    """A run that has begun, and a way to go on with it."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    (tmp_path / "wine.yaml").write_text(CONFIG)
    preparation = prepare_locally(load_config("wine.yaml"))
    begin(preparation).lock.release()
    return preparation


def came_to(run_dir, step):
    lines = [json.dumps({"step": each, "split": "train", "loss": 1.0}) + "\n" for each in range(1, step + 1)]
    (run_dir / METRICS_FILE).write_text("".join(lines) + '{"step": 9')


def saved(run_dir):
    came_to(run_dir, 12)
    (run_dir / FOLDER).mkdir()
    point_to(run_dir / FOLDER, 10)


def removed(run_dir):
    saved(run_dir)
    shutil.rmtree(run_dir / FOLDER)


def emptied(run_dir):
    saved(run_dir)
    (run_dir / FOLDER / "latest").unlink()


def modelled(run_dir):
    came_to(run_dir, 12)
    (run_dir / "model").mkdir()


VANISHED = {
    "removed": (removed, "step-10 was saved last"),
    "emptied": (emptied, "step-10 was saved last"),
    "all but latest": (saved, "step-10 was saved last"),
    "a model": (modelled, "there is a trained model"),
}


@pytest.mark.parametrize("name", VANISHED)
def test_what_a_run_has_left_is_not_begun_anew(name, run, tmp_path):
    leave, reason = VANISHED[name]
    leave(tmp_path / "run")
    before = {path: path.read_bytes() for path in (tmp_path / "run").rglob("*") if path.is_file()}
    with pytest.raises(ModelFileError) as caught:
        begin_or_resume(run)
    message = f"{tmp_path}/run: the run had come to step 12, and its checkpoints are gone: {reason}; put "
    assert str(caught.value).startswith(message) and caught.value.exit_code == 4
    assert {path: path.read_bytes() for path in (tmp_path / "run").rglob("*") if path.is_file()} == before


def saving(run_dir):
    came_to(run_dir, 40)  # no save has ever come to its end: the disk may be full
    (run_dir / FOLDER / ".saving-10").mkdir(parents=True)


KILLED = {
    "at the start": lambda d: None,
    "before the first step": lambda d: write_status(d, "preempted", step=5, message=preempted_at_start(15)),
    "before the first save": lambda d: came_to(d, 9),
    "while it was written": saving,
    "with a damaged status": lambda d: (d / "status.json").write_text("{"),
}


@pytest.mark.parametrize("name", KILLED)
def test_a_run_that_was_killed_before_its_first_checkpoint_begins_anew(name, run, tmp_path):
    KILLED[name](tmp_path / "run")
    begun = begin_or_resume(run)
    begun.lock.release()
    assert begun.checkpoint is None and "no checkpoint yet: the run begins anew" in begun.notes
    assert read_status(tmp_path / "run").state == "running"
    assert not (tmp_path / "run" / METRICS_FILE).exists() or not (tmp_path / "run" / METRICS_FILE).read_text()
    shutil.rmtree(tmp_path / "run")
