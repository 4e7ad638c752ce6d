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


def main(mode: str) -> None:
    if mode == "polite":
        handle_termination(preempted)
    if mode == "watch":
        watch_parents(leave, poll_seconds=0.02)
    if mode == "stubborn":
        for signum in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            signal.signal(signum, signal.SIG_IGN)
    if mode == "parent":
        note(f"child-{RANK}", subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"]).pid)
    if mode != "silent":
        write_status(RUN_DIR, "running", step=7)
    note(f"worker-{RANK}")
    if mode == "silent":
        time.sleep(1.5)  # long enough to be seen
    elif mode == "finish":
        write_status(RUN_DIR, "finished", step=9, exit_code=0)
    elif mode == "fail":
        report_failure(RUN_DIR, f"rank {RANK}: loss is NaN at step 7", 6, own=True)
        sys.exit(6)
    elif mode.startswith("exit"):
        sys.exit(int(mode.removeprefix("exit")))
    elif mode == "peer":  # sees that another rank was killed, and ends with its own code
        while psutil.pid_exists(victim := pid_of("worker-1")) and psutil.Process(victim).status() != "zombie":
            time.sleep(0.01)
        report_failure(RUN_DIR, f"rank {RANK}: a peer has left", 6, own=False)
        time.sleep(600)
    elif mode == "polite":
        wait_in_native_code()
    else:
        time.sleep(600)


def pid_of(name: str) -> int:
    path = Path(os.environ["NOTES"]) / f"{name}.pid"
    while not path.exists():
        time.sleep(0.01)
    return int(path.read_text().split()[0])


main(sys.argv[1])
