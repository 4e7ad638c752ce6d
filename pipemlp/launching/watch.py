"""How a worker learns that it should end: a process above it has died, or a signal has come."""

import os
import signal
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress

import psutil

from pipemlp.launching.environment import SUPERVISOR_PID

_LAUNCH_MODULE = "deepspeed.launcher.launch"
STOP_SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGUSR1)


def watch_parents(on_death: Callable[[str], None], poll_seconds: float = 0.5) -> threading.Thread:
    """Watch the processes above this one from a daemon thread; call `on_death` once, with what died, and stop.

    Watched are the parent, the parent's parent when the parent is deepspeed's launch.py (whose runner can die without
    taking anyone along), and the process named by PIPEMLP_SUPERVISOR_PID. Call it first thing in a worker: a launcher
    that dies earlier is not seen. `on_death` should record the failure and end the process by os._exit.
    """
    parent = os.getppid()
    parent_name, watched = _watched(parent)

    def poll() -> None:
        while True:
            # A parent's death is seen by being adopted, which needs no right to look at the parent.
            dead = f"{parent_name}, process {parent}," if os.getppid() != parent else _first_dead(watched)
            if dead is not None:
                on_death(f"{dead} has died")
                return
            time.sleep(poll_seconds)

    thread = threading.Thread(target=poll, name="watch-parents", daemon=True)
    thread.start()
    return thread


def supervisor_has_died() -> bool:
    """Whether a `pipemlp train` started this process and is gone; while it lives, it holds the lock of the run."""
    pid = os.environ.get(SUPERVISOR_PID, "")
    if not (pid.isascii() and pid.isdigit()):
        return False
    process = _process(int(pid))
    return process is None or not is_alive(process)


def a_sibling_is_gone(num_siblings: int) -> bool:
    """Whether of the processes that this one's parent has started, this one included, fewer live than it started."""
    with suppress(psutil.Error):
        return sum(is_alive(child) for child in psutil.Process(os.getppid()).children()) < num_siblings
    return False


def handle_termination(
    on_signal: Callable[[int], None], signals: Sequence[signal.Signals] = STOP_SIGNALS
) -> threading.Thread:
    """Take stop signals in a daemon thread, which calls `on_signal` with the number of each one.

        any thread     the system's handler writes the signal's number into a pipe, at once
        our thread     reads it, and calls `on_signal`

    A Python handler would have to wait until the main thread returns from native code, so from a collective whose peer
    has left it would never run. Call it in the main thread: the signals are blocked there and in all threads that
    start later, so that no system call of theirs is broken off; threads that were there before (numpy has some) may
    still get them. Child processes inherit the block; one that should end by SIGTERM has to lift it. Signals that are
    ignored (nohup) stay so.
    """
    taken = {signum for signum in signals if signal.getsignal(signum) is not signal.SIG_IGN}
    reading, writing = os.pipe()
    os.set_blocking(writing, False)
    for signum in taken:
        signal.signal(signum, lambda *_: None)  # all is done by what stands in front of a handler
    signal.set_wakeup_fd(writing, warn_on_full_buffer=False)
    signal.pthread_sigmask(signal.SIG_BLOCK, taken)

    def wait() -> None:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, taken)
        while True:
            for signum in os.read(reading, 1):
                if signum in taken:
                    on_signal(signum)

    thread = threading.Thread(target=wait, name="take-signals", daemon=True)
    thread.start()
    return thread


def _watched(parent_pid: int) -> tuple[str, list[tuple[str, psutil.Process | None]]]:
    """What the parent is; descriptions and processes of those above it, None for one that was gone already."""
    parent_name = "its parent"
    watched: list[tuple[str, psutil.Process | None]] = []
    with suppress(psutil.Error):  # processes of other users may be hidden; the parent is watched without a look at it
        parent = psutil.Process(parent_pid)
        grandparent = parent.ppid()
        if _LAUNCH_MODULE in parent.cmdline():
            parent_name = "the deepspeed launcher"
            if grandparent > 0:
                watched.append((f"the deepspeed launcher, process {grandparent},", psutil.Process(grandparent)))
    pid = os.environ.get(SUPERVISOR_PID, "")
    if pid.isascii() and pid.isdigit():
        watched.append((f"pipemlp train, process {pid},", _process(int(pid))))
    return parent_name, watched


def _process(pid: int) -> psutil.Process | None:
    try:
        return psutil.Process(pid)
    except psutil.NoSuchProcess:
        return None


def _first_dead(watched: list[tuple[str, psutil.Process | None]]) -> str | None:
    for description, process in watched:
        if process is None or not is_alive(process):
            return description
    return None


def is_alive(process: psutil.Process) -> bool:
    """Whether this very process (not a later one with its pid) runs; one that only waits to be reaped does not."""
    try:
        return bool(process.is_running() and process.status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False
    except psutil.AccessDenied:
        return True
