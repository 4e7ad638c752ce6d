"""How a process leaves when it is told to before the first step, or when what started it dies."""

import os
import signal
import threading
import time

import pytest

from pipemlp.launching.environment import SUPERVISOR_PID
from pipemlp.launching.outcome import preempted_at_start
from pipemlp.launching.status import read_status, report_failure, write_status
from pipemlp.training import life as living
from pipemlp.training.life import Life
from pipemlp.training.run_lock import RunLock

FOR_EVER = 1e6
"""Seconds: the patience of a stop ends by a timer, which would end the tests."""


class Said:
    """A terminal and log; the real ones take this process's output."""

    def __init__(self):
        self.texts = []

    def print(self, text):
        self.texts.append(text)

    def log_to(self, run_dir, rank):
        pass


class Left(BaseException):
    """Instead of the end of this process."""


@pytest.fixture
def life(tmp_path, monkeypatch):
    def left(code):
        raise Left(code)

    monkeypatch.setattr(os, "_exit", left)
    monkeypatch.setattr(living, "a_sibling_is_gone", lambda number: False)
    monkeypatch.setattr(living, "SIGNAL_SECONDS", 0.2)
    monkeypatch.setattr(living, "Terminal", Said)
    write_status(tmp_path, "running")
    return Life(0, tmp_path, 2)


def code_of(act, *arguments) -> int:
    with pytest.raises(Left) as caught:
        act(*arguments)
    return caught.value.args[0]


def test_who_has_begun_leaves_with_the_one_that_has_not(life):
    """A rank was told to end while it started up; the launcher ends the others, who wait for it in their first step."""
    asked = []
    life.stops_by(asked.append, FOR_EVER, str)
    write_status(life.run_dir, "preempted", exit_code=75, message=preempted_at_start(signal.SIGTERM))
    assert code_of(life.told_to_end, signal.SIGTERM) == 75
    assert asked == []


@pytest.mark.parametrize(("signum", "expected"), [(signal.SIGTERM, 75), (signal.SIGUSR1, 75), (signal.SIGINT, 130)])
def test_before_the_first_step_there_is_nothing_to_save(life, signum, expected):
    assert code_of(life.told_to_end, signum) == expected
    status = read_status(life.run_dir)
    assert (status.state, status.exit_code) == ("preempted", expected)
    assert status.message.startswith(f"stopped by {signum.name} before the first step")
    assert life.terminal.texts == [status.message]


def test_a_launcher_that_ends_all_for_a_killed_rank_is_no_stop(life, monkeypatch):
    monkeypatch.setattr(living, "a_sibling_is_gone", lambda number: number == 2)
    monkeypatch.setattr("pipemlp.training.failure.OWN_CAUSE_SECONDS", 0.0)
    assert code_of(life.told_to_end, signal.SIGTERM) == 143
    status = read_status(life.run_dir)
    assert (status.state, status.own) == ("failed", False)


def test_nor_is_one_that_does_so_for_a_rank_that_failed(life, monkeypatch):
    monkeypatch.setattr("pipemlp.training.failure.OWN_CAUSE_SECONDS", 0.0)
    report_failure(life.run_dir, "the data are gone", 3, own=True)
    assert code_of(life.told_to_end, signal.SIGTERM) == 3
    assert read_status(life.run_dir).message == "the data are gone"


def test_the_second_of_two_that_were_told_follows_the_first(life, monkeypatch):
    assert code_of(life.told_to_end, signal.SIGTERM) == 75
    monkeypatch.setattr(living, "a_sibling_is_gone", lambda number: True)
    assert code_of(Life(1, life.run_dir, 2).told_to_end, signal.SIGTERM) == 75
    assert read_status(life.run_dir).state == "preempted"


def test_who_does_not_know_the_run_yet_leaves_after_those_who_do(life):
    """Else they would miss it, and call a stop a failure."""
    started = time.monotonic()
    assert code_of(Life(1, None, 2).told_to_end, signal.SIGTERM) == 75
    assert time.monotonic() - started >= 0.2


def test_a_stop_is_finished_without_a_launcher(life):
    """All processes of a service are told at once; the launcher ends first, and the signal may come a little later."""
    asked = []
    life.stops_by(asked.append, FOR_EVER, str)
    told = threading.Timer(0.05, life.told_to_end, [signal.SIGTERM])
    told.start()
    life.lost_parent("its parent, process 1, has died")
    told.join()
    assert asked == [signal.SIGTERM] and read_status(life.run_dir).state == "running"


def test_without_a_stop_a_dead_launcher_is_the_end(life):
    life.stops_by(lambda signum: None, FOR_EVER, str)
    started = time.monotonic()
    assert code_of(life.lost_parent, "its parent, process 1, has died") == 5
    assert time.monotonic() - started < 5.0
    assert read_status(life.run_dir).message == "its parent, process 1, has died"


@pytest.mark.parametrize(("supervisor", "says"), [("gone", False), ("lives", True), ("none", True)])
def test_who_outlives_its_run_says_nothing_of_the_next(life, monkeypatch, supervisor, says):
    """The next `pipemlp train` holds the lock by then; its own does while it lives, though launch.py has died; under a
    launcher by hand rank 0 of the same run does."""
    monkeypatch.delenv(SUPERVISOR_PID, raising=False)
    if supervisor != "none":
        monkeypatch.setenv(SUPERVISOR_PID, str(os.getpid()) if supervisor == "lives" else str(2**22 + 1))
    lock = RunLock(life.run_dir)
    assert code_of(life.lost_parent, "its parent has died") == 5
    assert read_status(life.run_dir).state == ("failed" if says else "running")
    lock.release()
    assert code_of(life.lost_parent, "its parent has died") == 5
    assert read_status(life.run_dir).state == "failed"


@pytest.mark.parametrize(("signum", "expected"), [(signal.SIGTERM, 6), (signal.SIGINT, 130)])
def test_who_cannot_save_in_time_says_what_it_was_at(life, signum, expected):
    life.stops_by(lambda signum: None, FOR_EVER, lambda: "step 9, checkpoint 8: flushing layer-00003.safetensors")
    life._patience_seconds = 7.0
    assert code_of(life._give_up, signum) == expected
    status = read_status(life.run_dir)
    assert (status.state, status.exit_code) == ("failed", expected)
    assert status.message == (
        f"told to stop by {signum.name}, but could not save within 7 s; last: step 9, checkpoint 8: flushing "
        "layer-00003.safetensors"
    )


def test_a_failure_that_was_only_noticed_names_who_has_died(life, monkeypatch):
    monkeypatch.setattr("pipemlp.training.failure.OWN_CAUSE_SECONDS", 0.0)
    life.who_is_gone = lambda: "rank 1 (stage 1) has died; last: step 7, action 1F0"

    def broken():
        with life.failing():
            raise RuntimeError("Connection closed by peer")

    assert code_of(broken) == 6
    assert read_status(life.run_dir).message.startswith(
        "rank 1 (stage 1) has died; last: step 7, action 1F0; another rank"
    )
