"""A worker that behaves as its one argument says; RUN_DIR is where it reports."""

import ctypes
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
from note import note

from pipemlp.launching.status import report_failure, write_status
from pipemlp.launching.watch import handle_termination, watch_parents

RUN_DIR = Path(os.environ["RUN_DIR"])
RANK = os.environ["RANK"]


def wait_in_native_code() -> None:
    """Lock a mutex twice: as in a collective whose peer has left, no signal handler of Python ever runs."""
    libc = ctypes.CDLL(None)
    mutex = ctypes.create_string_buffer(128)
    libc.pthread_mutex_lock(mutex)
    libc.pthread_mutex_lock(mutex)


def leave(message: str) -> None:
    report_failure(RUN_DIR, f"rank {RANK}: {message}", 5, own=False)
    os._exit(5)


def preempted(signum: int) -> None:
    write_status(RUN_DIR, "preempted", step=7, exit_code=75, message=f"got {signal.Signals(signum).name}")
    os._exit(75)


def ignore_signals() -> None:
    for signum in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(signum, signal.SIG_IGN)


def start_child() -> None:
    child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
    note(f"child-{RANK}", child.pid)


def hang() -> None:
    time.sleep(600)


def finish() -> None:
    write_status(RUN_DIR, "finished", step=9, exit_code=0)


def fail() -> None:
    report_failure(RUN_DIR, f"rank {RANK}: loss is NaN at step 7", 6, own=True)
    sys.exit(6)


def lose_a_peer() -> None:
    """Report, but stay, when rank 1 has been killed."""
    path = Path(os.environ["NOTES"]) / "worker-1.pid"
    while not path.exists():
        time.sleep(0.01)
    victim = int(path.read_text().split()[0])
    while psutil.pid_exists(victim) and psutil.Process(victim).status() != psutil.STATUS_ZOMBIE:
        time.sleep(0.01)
    report_failure(RUN_DIR, f"rank {RANK}: a peer has left", 6, own=False)
    hang()


PREPARATIONS = {
    "polite": lambda: handle_termination(preempted),
    "watch": lambda: watch_parents(leave, poll_seconds=0.02),
    "stubborn": ignore_signals,
    "parent": start_child,
}
ACTIONS = {
    "finish": finish,
    "fail": fail,
    "peer": lose_a_peer,
    "polite": wait_in_native_code,
    "silent": lambda: time.sleep(1.5),  # long enough to be seen
    "exit0": lambda: sys.exit(0),
    "exit1": lambda: sys.exit(1),
    "exit3": lambda: sys.exit(3),
}

mode = sys.argv[1]
PREPARATIONS.get(mode, lambda: None)()
if mode != "silent":
    write_status(RUN_DIR, "running", step=7)
note(f"worker-{RANK}")
ACTIONS.get(mode, hang)()
