import pytest

from pipemlp.launching.outcome import Outcome, conclude
from pipemlp.launching.status import read_status, report_failure, write_status


@pytest.mark.parametrize(
    ("outcome", "expected", "message"),
    [
        (Outcome(0, None, True, True), 5, "the launcher died (exit code 0) before the run finished"),
        (Outcome(-9, None, False, True), 5, "the launcher died (killed by signal 9 (SIGKILL)) before"),
        (Outcome(247, None, False, True), 6, "a rank was killed by signal 9 (SIGKILL); the machine may have run out"),
        (Outcome(245, None, False, True), 6, "a rank was killed by signal 11 (SIGSEGV); see logs/"),
        (Outcome(1, None, False, True), 6, "the launcher ended (exit code 1) before the run finished; see logs/"),
        (Outcome(3, None, False, True), 3, "the launcher ended (exit code 3) before the run finished"),
        (Outcome(None, 15, True, True), 6, "stopped by signal 15 (SIGTERM) before the run finished"),
        (Outcome(247, 2, False, True), 130, "stopped by signal 2 (SIGINT) before the run finished"),
    ],
)
def test_a_run_that_did_not_say_how_it_ended(tmp_path, capsys, outcome, expected, message):
    write_status(tmp_path, "running", step=5)
    assert conclude(tmp_path, None, outcome) == expected
    status = read_status(tmp_path)
    assert (status.state, status.exit_code, status.step) == ("failed", expected, 5)
    assert status.message.startswith(message)
    assert capsys.readouterr().err == status.message + "\n"


@pytest.mark.parametrize("outcome", [Outcome(0, None, False, True), Outcome(1, 15, True, True)])
@pytest.mark.parametrize(("state", "expected"), [("finished", 0), ("preempted", 75)])
def test_the_workers_word_counts(tmp_path, capsys, outcome, state, expected):
    write_status(tmp_path, state)
    assert conclude(tmp_path, None, outcome) == expected
    assert read_status(tmp_path).state == state
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize("exit_code", [2, 3, 5, 6, 130])
def test_a_failure_has_its_own_code(tmp_path, exit_code):
    report_failure(tmp_path, "why", exit_code, own=True)
    assert conclude(tmp_path, None, Outcome(1, None, False, True)) == exit_code
    assert read_status(tmp_path).message == "why"


def test_a_killed_rank_is_the_cause_even_when_the_launcher_ended_the_others_for_it(tmp_path):
    report_failure(tmp_path, "ended by signal 15", 143, own=False)
    assert conclude(tmp_path, None, Outcome(247, None, False, True)) == 6
    status = read_status(tmp_path)
    assert (status.exit_code, status.own) == (6, True)
    assert status.message.startswith("a rank was killed by signal 9 (SIGKILL)")
    assert "signal 15" not in status.message


def test_workers_that_were_ended_for_a_reason_nobody_said(tmp_path, capsys):
    """The launcher had to be killed: no code of its own says who began."""
    report_failure(tmp_path, "ended by signal 15", 143, own=False)
    assert conclude(tmp_path, None, Outcome(None, None, False, True)) == 6
    status = read_status(tmp_path)
    assert (status.exit_code, status.state) == (6, "failed")
    assert status.message == "the launcher ended (it did not end by itself) before the run finished; see logs/"
    assert capsys.readouterr().err == status.message + "\n"


def test_workers_that_were_asked_to_end_leave_the_word_to_who_asked_them(tmp_path, capsys):
    report_failure(tmp_path, "ended by signal 15", 143, own=False)
    assert conclude(tmp_path, None, Outcome(143, 15, False, True)) == 6
    status = read_status(tmp_path)
    assert status.message == "stopped by signal 15 (SIGTERM) before the run finished"
    assert capsys.readouterr().err == status.message + "\n"


def test_a_failure_is_never_exit_code_zero(tmp_path):
    report_failure(tmp_path, "why", 0, own=True)
    assert conclude(tmp_path, None, Outcome(0, None, False, True)) == 6


def test_nothing_can_be_written(tmp_path, capsys):
    (tmp_path / "file").touch()
    assert conclude(tmp_path / "file" / "run", None, Outcome(1, None, False, True)) == 6
    assert "cannot write status.json" in capsys.readouterr().err
