import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from pipemlp.config.errors import ClusterError
from pipemlp.launching.status import RunStatus, read_status, write_status
from pipemlp.launching.supervise import _Supervision, run_launcher


def ended(tree, supervisor: subprocess.Popen[str]) -> tuple[int, RunStatus, str]:
    """Exit code, status and messages of a supervisor that has ended and left nothing behind."""
    _, errors = supervisor.communicate(timeout=60)
    assert tree.alive() == []
    status = read_status(tree.run_dir)
    assert status is not None
    return supervisor.returncode, status, errors


def test_finished(tree):
    code, status, errors = ended(tree, tree.supervise("finish", "finish"))
    assert (code, status.state, status.step, errors) == (0, "finished", 9, "")


def test_a_rank_that_fails_is_heard(tree):
    code, status, errors = ended(tree, tree.supervise("watch", "fail"))
    assert (code, status.state, status.exit_code, status.own) == (6, "failed", 6, True)
    assert status.message == "rank 1: loss is NaN at step 7"
    assert errors == ""


def test_worker_killed(tree):
    supervisor = tree.supervise("hang", "hang")
    tree.kill("worker-1")
    code, status, errors = ended(tree, supervisor)
    assert (code, status.state, status.exit_code, status.step) == (6, "failed", 6, 7)
    assert status.message.startswith("a rank was killed by signal 9 (SIGKILL); the machine may have run out of memory")
    assert errors == status.message + "\n"


def test_who_does_not_end_after_a_failure_is_killed(tree):
    """One that is stopped hears no SIGTERM, and launch.py waits for it."""
    code, status, _ = ended(tree, tree.supervise("stubborn", "fail", grace_seconds=0.5))
    assert (code, status.state, status.message) == (6, "failed", "rank 1: loss is NaN at step 7")


def test_the_cause_is_added_to_what_a_peer_saw(tree):
    supervisor = tree.supervise("peer", "hang")
    tree.kill("worker-1")
    code, status, _ = ended(tree, supervisor)
    assert (code, status.own) == (6, True)
    assert "a rank was killed by signal 9 (SIGKILL)" in status.message


@pytest.mark.parametrize("mode", ["watch", "hang", "stubborn", "parent"])
def test_launch_killed(tree, mode):
    supervisor = tree.supervise(mode, mode, grace_seconds=30.0 if mode == "watch" else 0.2)
    tree.kill("launch")
    code, status, _ = ended(tree, supervisor)
    assert (code, status.state, status.exit_code) == (5, "failed", 5)
    assert (
        "the deepspeed launcher" in status.message
        if mode == "watch"
        else "the launcher died (exit code 0)" in status.message
    )


@pytest.mark.parametrize("signum", [signal.SIGKILL, signal.SIGTERM])
@pytest.mark.parametrize("mode", ["watch", "hang"])
def test_runner_killed(tree, mode, signum):
    supervisor = tree.supervise(mode, mode, grace_seconds=30.0 if mode == "watch" else 0.2)
    tree.kill("runner", signum)
    code, status, _ = ended(tree, supervisor)
    assert (code, status.state, status.exit_code) == (5, "failed", 5)
    assert "launcher" in status.message
    assert "died" in status.message


def test_supervisor_killed(tree):
    supervisor = tree.supervise("watch", "watch")
    tree.kill("supervisor")
    supervisor.communicate(timeout=60)
    tree.wait_for_end()  # the runner and launch.py follow their workers
    status = read_status(tree.run_dir)
    assert (status.state, status.exit_code) == ("failed", 5)
    assert "pipemlp train, process" in status.message


@pytest.mark.parametrize(("signum", "expected"), [(signal.SIGINT, 130), (signal.SIGTERM, 6), (signal.SIGHUP, 6)])
def test_signals_end_workers_that_do_not_report(tree, signum, expected):
    supervisor = tree.supervise("hang", "hang")
    supervisor.send_signal(signum)
    code, status, _ = ended(tree, supervisor)
    assert (code, status.state, status.exit_code) == (expected, "failed", expected)
    assert status.message == f"stopped by signal {int(signum)} ({signum.name}) before the run finished"


def test_workers_that_save_are_preempted(tree):
    supervisor = tree.supervise("polite", "polite")
    supervisor.send_signal(signal.SIGTERM)
    code, status, _ = ended(tree, supervisor)
    assert (code, status.state, status.step, status.message) == (75, "preempted", 7, "got SIGTERM")


def test_workers_that_do_not_end_in_time_are_killed(tree):
    supervisor = tree.supervise("stubborn", "stubborn", grace_seconds=0.5)
    supervisor.send_signal(signal.SIGTERM)
    code, status, _ = ended(tree, supervisor)
    assert (code, status.state) == (6, "failed")


def test_second_interrupt_kills_at_once(tree):
    supervisor = tree.supervise("stubborn", "stubborn", grace_seconds=10_000.0)
    supervisor.send_signal(signal.SIGINT)
    threading.Timer(1.0, supervisor.send_signal, [signal.SIGINT]).start()
    code, status, _ = ended(tree, supervisor)
    assert (code, status.state) == (130, "failed")


@pytest.mark.parametrize(("begun", "expected"), [(True, (75, "preempted")), (False, (6, "failed"))])
def test_signal_before_any_worker(tree, begun, expected):
    """Of a run that was begun nothing is lost; what is no run, as a profile, cannot go on."""
    tree.run_dir.mkdir()
    if begun:
        write_status(tree.run_dir, "running")
    code = "import time; from note import note; note('runner'); time.sleep(600)"
    script = (
        "import os, sys; from note import note; note('supervisor')\n"
        "from pathlib import Path; from pipemlp.launching.supervise import run_launcher\n"
        f"sys.exit(run_launcher([sys.executable, '-c', {code!r}], Path({str(tree.run_dir)!r}), dict(os.environ)))"
    )
    supervisor = subprocess.Popen(
        [sys.executable, "-c", script], env=tree.environment(), stderr=subprocess.PIPE, text=True
    )
    tree.wait_for("runner")
    supervisor.send_signal(signal.SIGTERM)
    exit_code, status, errors = ended(tree, supervisor)
    assert (exit_code, status.state) == expected
    assert errors == f"{status.message}\n" and ("`pipemlp resume` goes on" in errors) == begun


@pytest.mark.parametrize(("mode", "expected"), [("exit0", 6), ("exit1", 6), ("exit3", 3), ("silent", 6)])
def test_workers_that_end_without_a_word(tree, mode, expected):
    code, status, _ = ended(tree, tree.supervise(mode, mode))
    assert (code, status.state, status.exit_code) == (expected, "failed", expected)
    assert "before the run finished; see logs/" in status.message


def run(tmp_path: Path, code: str) -> int:
    return run_launcher([sys.executable, "-c", code], tmp_path, {})


def test_launcher_that_starts_nothing(tmp_path, capfd):
    assert run(tmp_path, "raise SystemExit(1)") == 5
    status = read_status(tmp_path)
    assert (status.state, status.exit_code) == ("failed", 5)
    assert status.message == "the launcher ended (exit code 1) before any process started"
    assert capfd.readouterr().err == status.message + "\n"


def test_launcher_that_cannot_be_started(tmp_path):
    with pytest.raises(ClusterError, match="cannot start the launcher /does/not/exist: No such file"):
        run_launcher(["/does/not/exist"], tmp_path, {})


@pytest.mark.parametrize("state", ["running", "failed", "preempted"])
def test_what_an_earlier_run_left_is_not_taken_for_ours(tmp_path, state):
    write_status(tmp_path, state, step=40, exit_code=75, message="earlier")
    assert run(tmp_path, "raise SystemExit(1)") == 5
    status = read_status(tmp_path)
    assert (status.state, status.exit_code, status.step) == ("failed", 5, 40)


def test_a_finished_run_stays_finished_but_is_no_success(tmp_path):
    write_status(tmp_path, "finished", step=40, exit_code=0)
    assert run(tmp_path, "raise SystemExit(1)") == 5
    assert read_status(tmp_path).state == "finished"


def test_handlers_are_given_back(tmp_path):
    before = [signal.getsignal(signum) for signum in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)]
    run(tmp_path, "pass")
    assert [signal.getsignal(signum) for signum in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)] == before


def test_outside_the_main_thread(tmp_path):
    codes: list[int] = []
    thread = threading.Thread(target=lambda: codes.append(run(tmp_path, "pass")))
    thread.start()
    thread.join(timeout=60)
    assert codes == [5]


@pytest.mark.parametrize(("caught", "expected"), [([15], []), ([], ["a worker"])])
def test_workers_that_save_have_their_time_without_a_launcher_too(caught, expected):
    """A whole service is told to stop: its launcher ends at once, and its workers save."""
    ends_at = time.monotonic() + 0.5

    class Tree:
        def update(self):
            pass

        def workers(self):
            return ["a worker"] if time.monotonic() < ends_at else []

    supervision = _Supervision(
        None, Tree(), caught, lambda: False, grace_seconds=0.1, saving_seconds=30.0, num_handled=len(caught)
    )
    supervision._wait_for_survivors()
    assert supervision.tree.workers() == expected


BEGINNING = """
import time
from pipemlp.launching.supervise import ending_at_once
with ending_at_once():
    print("ready", flush=True)
    time.sleep(600)
"""


@pytest.mark.parametrize("signum", [signal.SIGTERM, signal.SIGUSR1, signal.SIGHUP])
def test_a_run_that_has_not_begun_ends_at_once_and_is_to_be_run_again(signum):
    process = subprocess.Popen(
        [sys.executable, "-c", BEGINNING], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert process.stdout is not None and process.stdout.readline() == "ready\n"
    process.send_signal(signum)
    _, said = process.communicate(timeout=60)
    assert (process.returncode, said) == (75, f"stopped by {signum.name} before the run began; run it again\n")
