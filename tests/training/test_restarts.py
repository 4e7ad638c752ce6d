"""A run that died starts again from a whole checkpoint, never past damaged ones, and a signal ends the pause."""

import shutil
import signal
import threading

import pytest

from pipemlp.checkpoint.commit import Writing, commit
from pipemlp.checkpoint.folder import FOLDER
from pipemlp.checkpoint.manifest import Manifest
from pipemlp.config.errors import ModelFileError
from pipemlp.launching.status import read_status, report_failure, write_status
from pipemlp.training import restarts
from pipemlp.training.restarts import run_with_restarts


class Alone:
    rank = 0

    def everyone(self, value):
        return [value]


@pytest.fixture(autouse=True)
def _soon(monkeypatch):
    monkeypatch.setattr(restarts, "FIRST_PAUSE_SECONDS", 0.01)


@pytest.fixture
def run_dir(tmp_path):
    """With a checkpoint of step 10; it died at 15."""

    def write(folder):
        (folder / "layer-0").write_text("weights")
        return ["layer-0"]

    def describe(files):
        return Manifest(10, 1, 1, False, files)

    commit(tmp_path / FOLDER, 10, Writing(10, write), describe, Alone(), lambda text: None)
    write_status(tmp_path, "running", step=15)
    return tmp_path


def test_it_goes_on_where_it_was_saved(run_dir, capsys):
    started = []

    def start(checkpoint):
        started.append(checkpoint)
        if len(started) < 3:
            report_failure(run_dir, "struck", 6, own=True)
        return 6 if len(started) < 3 else 0

    assert run_with_restarts(start, run_dir, None, 5) == 0
    assert started == [None, run_dir / FOLDER / "step-10", run_dir / FOLDER / "step-10"]
    assert "restart 2 of 5 in 0 s, after step 10: struck" in capsys.readouterr().out


def test_it_does_not_begin_anew_past_damaged_ones(run_dir):
    (run_dir / FOLDER / "step-10" / "layer-0").unlink()
    started = []
    with pytest.raises(ModelFileError, match="none of 1 checkpoints is whole") as caught:
        run_with_restarts(lambda checkpoint: started.append(checkpoint) or 6, run_dir, None, 5)
    assert len(started) == 1 and caught.value.exit_code == 4
    status = read_status(run_dir)
    assert (status.state, status.exit_code) == ("failed", 4) and "layer-0: missing" in status.message


@pytest.mark.parametrize(("signum", "expected"), [(signal.SIGTERM, 75), (signal.SIGINT, 130)])
def test_a_signal_ends_the_pause(run_dir, monkeypatch, signum, expected):
    monkeypatch.setattr(restarts, "FIRST_PAUSE_SECONDS", 1000.0)
    started, caught = [], []

    def start(checkpoint):
        started.append(checkpoint)
        report_failure(run_dir, "struck", 6, own=True)
        threading.Timer(0.3, caught.append, [int(signum)]).start()
        return 6

    assert run_with_restarts(start, run_dir, None, 5, caught) == expected
    status = read_status(run_dir)
    assert (status.state, status.exit_code, status.step) == ("preempted", expected, 10)
    assert len(started) == 1


def test_who_was_told_to_stop_is_not_started_again(run_dir):
    """Though it could not save, and so has failed."""
    assert run_with_restarts(lambda checkpoint: 6, run_dir, None, 5, [15]) == 6


def test_numbers_that_are_lost_twice_are_not_tried_again(run_dir, capsys):
    """They are lost again: from the same checkpoint every step has the same bits."""
    started = []

    def start(checkpoint):
        started.append(checkpoint)
        report_failure(run_dir, "step 15: the loss is not finite", 6, own=True, comes_again=True)
        return 6

    assert run_with_restarts(start, run_dir, None, 50) == 6
    assert started == [None, run_dir / FOLDER / "step-10"]
    assert "no restart 2 of 50: it would fail in the same way again" in capsys.readouterr().out


def test_what_comes_from_outside_is_tried_as_often_as_was_said(run_dir):
    started = []

    def start(checkpoint):
        started.append(checkpoint)
        report_failure(run_dir, "out of memory", 6, own=True)
        return 6

    assert run_with_restarts(start, run_dir, None, 4) == 6
    assert len(started) == 5


def test_a_run_whose_checkpoints_vanish_is_not_begun_anew(run_dir):
    """Somebody removes them while it trains; then a rank is killed."""
    started = []

    def start(checkpoint):
        started.append(checkpoint)
        shutil.rmtree(run_dir / FOLDER)
        return 6

    with pytest.raises(ModelFileError, match="its checkpoints are gone: step-10 was saved last"):
        run_with_restarts(start, run_dir, run_dir / FOLDER / "step-10", 5)
    assert len(started) == 1 and read_status(run_dir).exit_code == 4
