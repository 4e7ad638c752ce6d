"""What an exception that ends a rank is called, and with which exit code."""

import errno
import os
import time
from types import SimpleNamespace

import pytest

from pipemlp.config.errors import DataError
from pipemlp.gradients.links import lost
from pipemlp.training import failure
from pipemlp.training.failure import Cause, describe, end, fail


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (DataError("t.csv: line 3"), ("t.csv: line 3", DataError.exit_code, True)),
        (
            OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)),
            ("the disk is full: No space left on device; make room, then go on with pipemlp resume", 6, True),
        ),
        (
            OSError(errno.EDQUOT, os.strerror(errno.EDQUOT), "a/metrics.jsonl"),
            (
                "the disk is full: a/metrics.jsonl: Disk quota exceeded; make room, then go on with pipemlp resume",
                6,
                True,
            ),
        ),
        (
            RuntimeError("[gloo] Connection closed by peer [127.0.0.1]:1"),
            ("another rank left or stopped answering; see its log in logs/", 6, False),
        ),
        (
            lost(1, "exchanging gradients"),
            ("exchanging gradients: replica 1 left or stopped answering; see its log in logs/", 6, False),
        ),
        (FileNotFoundError(2, "No such file", "x"), ("FileNotFoundError: [Errno 2] No such file: 'x'", 1, True)),
    ],
)
def test_what_a_failure_is_called(error, expected):
    assert describe(error) == expected


def test_a_disk_that_does_not_answer_keeps_nobody(tmp_path, monkeypatch):
    """The failure cannot be recorded: it is said, and the process ends."""
    left, said = [], []
    monkeypatch.setattr(os, "_exit", left.append)
    monkeypatch.setattr(failure, "RECORDING_SECONDS", 0.2)
    monkeypatch.setattr(failure, "report_failure", lambda *arguments: time.sleep(60))
    cause = Cause("rank 1 has waited 610 s for its disk", 6, own=True)
    end(cause, terminal=SimpleNamespace(print=said.append), run_dir=tmp_path, rank=0)
    assert (left, said) == ([6], ["rank 0: rank 1 has waited 610 s for its disk"])


def test_a_full_disk_changes_no_exit_code(tmp_path, monkeypatch):
    """Neither the log nor status.json can be written."""
    left, said = [], []
    full = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    def refuse(*arguments):
        raise full

    monkeypatch.setattr(os, "_exit", left.append)
    monkeypatch.setattr(failure, "report_failure", refuse)
    with open("/dev/full", "w") as log, monkeypatch.context() as patched:
        patched.setattr("sys.stdout", log)
        patched.setattr("sys.stderr", log)
        log.write("something that waits to be written")
        fail(full, terminal=SimpleNamespace(print=said.append), run_dir=tmp_path, rank=0)
        os.dup2(os.open(os.devnull, os.O_WRONLY), log.fileno())  # what waits can be written now
    assert left == [6] and said[0].startswith("rank 0: the disk is full: No space left on device")
