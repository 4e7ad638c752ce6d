import ctypes
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

import pipemlp.launching
from pipemlp.launching.environment import SUPERVISOR_PID


def test_launcher_by_hand_is_watched_too(tree):
    """No supervisor: the worker itself sees that the runner, its parent's parent, has gone."""
    runner = tree.start("runner.py", "watch", "watch")
    tree.wait_for("worker-0", "worker-1")
    runner.kill()
    runner.communicate(timeout=60)
    tree.wait_for_end()


def test_launch_killed_by_hand(tree):
    runner = tree.start("runner.py", "watch", "watch")
    tree.wait_for("worker-0", "worker-1")
    tree.kill("launch")
    runner.communicate(timeout=60)
    assert runner.returncode == 0  # the trap that status.json is there for
    tree.wait_for_end()


def run_python(code: str, **environ: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, **environ}
    return subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, timeout=60, check=False
    )


WATCH = """
import os, time
from pipemlp.launching.watch import watch_parents
def leave(what):
    print(what, flush=True)
    os._exit(5)
watch_parents(leave, poll_seconds=0.01)
time.sleep({seconds})
"""


def test_a_supervisor_that_was_gone_before(tmp_path):
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait(timeout=60)
    result = run_python(WATCH.format(seconds=600), **{SUPERVISOR_PID: str(gone.pid)})
    assert (result.returncode, result.stdout) == (5, f"pipemlp train, process {gone.pid}, has died\n")


@pytest.mark.parametrize("value", ["", "nonsense", str(os.getpid())], ids=["empty", "no number", "alive"])
def test_nothing_has_died(value):
    result = run_python(WATCH.format(seconds=0.2), **{SUPERVISOR_PID: value})
    assert (result.returncode, result.stdout) == (0, "")


HANDLE = """
import ctypes, os, signal
{before}
from pipemlp.launching.watch import handle_termination
def leave(signum):
    os.write(1, signal.Signals(signum).name.encode())
    os._exit(75)
handle_termination(leave)
print("ready", flush=True)
mutex = ctypes.create_string_buffer(128)
libc = ctypes.CDLL(None)
libc.pthread_mutex_lock(mutex)
libc.pthread_mutex_lock(mutex)
"""


def start_handling(before: str = "") -> subprocess.Popen[str]:
    code = HANDLE.format(before=before)
    process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    return process


@pytest.mark.parametrize("signum", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_signals_are_heard_while_the_main_thread_hangs_in_native_code(signum):
    process = start_handling()
    process.send_signal(signum)
    output, _ = process.communicate(timeout=60)
    assert (process.returncode, output) == (75, signum.name)


OLDER_THREAD = """
import threading, time
older = threading.Thread(target=time.sleep, args=(600,), daemon=True)
older.start()
print(older.native_id, flush=True)
"""


def test_signals_are_heard_when_an_older_thread_gets_them():
    """As numpy's, which is started before anybody can block signals; the system chooses who gets one."""
    process = subprocess.Popen(
        [sys.executable, "-c", HANDLE.format(before=OLDER_THREAD)], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    older = int(process.stdout.readline())
    assert process.stdout.readline() == "ready\n"
    assert ctypes.CDLL(None).tgkill(process.pid, older, int(signal.SIGTERM)) == 0
    output, _ = process.communicate(timeout=60)
    assert (process.returncode, output) == (75, "SIGTERM")


def test_ignored_signals_stay_ignored():
    process = start_handling("signal.signal(signal.SIGHUP, signal.SIG_IGN)")
    process.send_signal(signal.SIGHUP)
    process.send_signal(signal.SIGTERM)
    output, _ = process.communicate(timeout=60)
    assert (process.returncode, output) == (75, "SIGTERM")


def test_no_torch_and_no_deepspeed():
    folder = Path(pipemlp.launching.__file__).parent
    names = sorted(path.stem for path in folder.glob("*.py") if path.stem != "__init__")
    assert "supervise" in names
    imports = "; ".join(f"import pipemlp.launching.{name}" for name in names)
    result = run_python(
        f"import sys; {imports}; print([name for name in ('torch', 'deepspeed') if name in sys.modules])"
    )
    assert result.stdout == "[]\n", result.stderr
