import json
import subprocess
import sys
import threading

import pytest

from pipemlp.config.errors import ClusterError
from pipemlp.launching.status import RunStatus, effective_state, read_status, report_failure, write_status


def test_written_and_read(tmp_path):
    written = write_status(tmp_path / "new" / "run", "running", step=3, message="epoch 1")
    assert read_status(tmp_path / "new" / "run") == written
    entries = json.loads((tmp_path / "new" / "run" / "status.json").read_text())
    assert entries.keys() >= {"state", "step", "exit_code", "message", "host", "pid", "updated_at"}
    assert (entries["state"], entries["step"], entries["exit_code"]) == ("running", 3, None)


def test_nothing_written(tmp_path):
    assert read_status(tmp_path) is None
    assert read_status(tmp_path / "missing") is None


@pytest.mark.parametrize("text", ["", "[]", "{", '{"state": "running", "colour": 1}', '{"state": "asleep"}', "3"])
def test_damaged(tmp_path, text):
    (tmp_path / "status.json").write_text(text)
    with pytest.raises(ClusterError, match=r"status\.json"):
        read_status(tmp_path)
    report_failure(tmp_path, "out of memory", 6, own=True)  # a damaged file keeps nothing from being recorded
    assert read_status(tmp_path).message == "out of memory"


@pytest.mark.parametrize(
    ("state", "age", "expected"),
    [
        ("running", 60.0, "running"),
        ("running", 60.1, "failed"),
        ("running", -5.0, "running"),
        ("finished", 1e9, "finished"),
        ("preempted", 1e9, "preempted"),
        ("failed", 0.0, "failed"),
    ],
)
def test_effective_state(state, age, expected):
    assert effective_state(RunStatus(state, updated_at=1000.0), 1000.0 + age, timeout_seconds=60.0) == expected


def test_no_temporary_files_stay(tmp_path):
    write_status(tmp_path, "running")
    write_status(tmp_path, "finished", exit_code=0)
    assert sorted(path.name for path in tmp_path.iterdir()) == [".status.lock", "status.json"]


def test_a_failure_stays(tmp_path):
    report_failure(tmp_path, "loss is NaN", 6, own=True)
    for state in ("running", "finished", "preempted"):
        assert write_status(tmp_path, state).message == "loss is NaN"
    assert write_status(tmp_path, "running", fresh=True).state == "running"
    assert read_status(tmp_path).state == "running"


def test_failure_keeps_the_step(tmp_path):
    write_status(tmp_path, "running", step=12)
    assert report_failure(tmp_path, "loss is NaN", 6, own=True).step == 12


@pytest.mark.parametrize(
    ("reports", "expected"),
    [
        ([("cause", True), ("peer left", False)], "cause"),
        ([("peer left", False), ("cause", True)], "cause"),
        ([("peer left", False), ("peer left too", False)], "peer left"),
        ([("cause", True), ("second cause", True)], "cause"),
        ([("peer left", False), ("cause", True), ("second cause", True), ("peer left", False)], "cause"),
    ],
)
def test_first_own_failure_wins(tmp_path, reports, expected):
    write_status(tmp_path, "running")
    for message, own in reports:
        report_failure(tmp_path, message, 6 if own else 5, own)
    assert read_status(tmp_path).message == expected


@pytest.mark.parametrize("state", ["finished", "preempted"])
def test_a_peer_that_left_after_the_end_is_no_failure(tmp_path, state):
    write_status(tmp_path, state)
    assert report_failure(tmp_path, "peer left", 5, own=False).state == state
    assert report_failure(tmp_path, "cannot write the model", 6, own=True).state == "failed"


def test_many_processes_at_once(tmp_path):
    code = (
        "import sys; from pathlib import Path; from pipemlp.launching.status import report_failure, write_status\n"
        "run_dir, number = Path(sys.argv[1]), sys.argv[2]\n"
        "for step in range(50): write_status(run_dir, 'running', step=step)\n"
        "report_failure(run_dir, f'peer of {number} left', 5, own=False)\n"
        "print(report_failure(run_dir, f'cause {number}', 6, own=True).message)\n"
    )
    command = [sys.executable, "-c", code, str(tmp_path)]
    writers = [subprocess.Popen([*command, str(number)], stdout=subprocess.PIPE, text=True) for number in range(4)]
    seen = {writer.communicate(timeout=60)[0].strip() for writer in writers}
    assert seen == {read_status(tmp_path).message}
    assert seen < {"cause 0", "cause 1", "cause 2", "cause 3"}


def test_a_reader_never_sees_half_a_file(tmp_path):
    write_status(tmp_path, "running")
    stop = threading.Event()

    def write() -> None:
        while not stop.is_set():
            write_status(tmp_path, "running", message="x" * 20_000)

    thread = threading.Thread(target=write)
    thread.start()
    try:
        for _ in range(300):
            assert read_status(tmp_path).state == "running"
    finally:
        stop.set()
        thread.join(timeout=60)
