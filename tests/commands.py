"""Run commands as a user does, in processes of their own that can all be found again."""

import json
import os
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Sequence
from pathlib import Path

import psutil

ROOT = Path(__file__).parents[1]
SCRIPTS = Path(sys.executable).parent
PIPEMLP = (sys.executable, "-m", "pipemlp")
WAIT_SECONDS = 150.0
_MARK = "PIPEMLP_TEST_MARK"


def wait_until(condition: Callable[[], object], what: Callable[[], str]) -> None:
    """Poll until the condition holds, for a bounded time."""
    deadline = time.monotonic() + WAIT_SECONDS
    while not condition():
        if time.monotonic() > deadline:
            raise AssertionError(f"waited {WAIT_SECONDS:g} s: {what()}")
        time.sleep(0.05)


class Started:
    """A command that was started; what it prints goes to files, which nobody has to drain.

    Every process below it inherits a mark in its environment, by which it is found even when its parents are gone.
    """

    def __init__(self, command: Sequence[str], folder: Path, **variables: str) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.folder = folder
        self._mark = uuid.uuid4().hex
        self._out, self._err = (folder / f"printed-{self._mark[:6]}.{name}" for name in ("out", "err"))
        with self._out.open("wb") as out, self._err.open("wb") as err:
            self.process = subprocess.Popen(
                command,
                cwd=folder,
                env={**os.environ, **variables, _MARK: self._mark},
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=err,
            )

    @property
    def out(self) -> str:
        """Standard output so far."""
        return self._out.read_text(encoding="utf-8", errors="replace")

    @property
    def err(self) -> str:
        """Standard error so far."""
        return self._err.read_text(encoding="utf-8", errors="replace")

    @property
    def printed(self) -> str:
        """All that a user has seen so far."""
        return self.out + self.err

    def living(self) -> list[psutil.Process]:
        """Every process of the command that still runs."""
        return [process for process in psutil.process_iter() if self._is_ours(process)]

    def _is_ours(self, process: psutil.Process) -> bool:
        try:
            return process.environ().get(_MARK) == self._mark and process.status() != psutil.STATUS_ZOMBIE
        except (psutil.Error, OSError):
            return False

    def find(self, role: str) -> psutil.Process:
        """`started` (the command itself), `runner`, `launch`, or `worker-N`."""
        if role == "started":
            return psutil.Process(self.process.pid)
        if role == "runner":  # the process that launch.py is a child of, whatever it is called
            return self.find("launch").parent()
        living = self.living()
        if role == "launch":
            return next(process for process in living if "deepspeed.launcher.launch" in process.cmdline())
        rank = role.removeprefix("worker-")
        return next(p for p in living if p.environ().get("RANK") == rank and "train" in p.cmdline())

    def wait(self, seconds: float = WAIT_SECONDS) -> int:
        """The exit code, once it has ended."""
        return self.process.wait(timeout=seconds)

    def wait_for_end(self) -> None:
        """Until no process of the command is left."""
        wait_until(lambda: not self.living(), lambda: f"still running: {self.living()}\n{self.printed}")

    def wait_for_training(self, run_dir: Path) -> None:
        """Until the run has written its first line of metrics."""
        metrics = run_dir / "metrics.jsonl"
        trains = lambda: metrics.is_file() and metrics.stat().st_size > 0  # noqa: E731
        wait_until(lambda: trains() or self.process.poll() is not None, lambda: f"no training\n{self.printed}")
        assert self.process.poll() is None, self.printed

    def end(self) -> None:
        """Kill what is left."""
        for process in self.living():
            process.kill()
        self.process.wait()


def succeed(command: Sequence[str], folder: Path, seconds: float = WAIT_SECONDS, **variables: str) -> Started:
    """Run a command to its end, which has to be a good one, and to come within so many seconds."""
    started = Started(command, folder, **variables)
    try:
        assert started.wait(seconds) == 0, started.printed
    finally:
        started.end()
    return started


def metrics_of(run_dir: Path) -> list[dict]:
    """The lines of metrics.jsonl, without how fast it went."""
    lines = [json.loads(line) for line in (run_dir / "metrics.jsonl").read_text().splitlines()]
    return [{key: value for key, value in line.items() if key != "samples_per_second"} for line in lines]


def model_files(run_dir: Path) -> dict[str, bytes]:
    """Every file that the manifest of the trained model lists; it says itself with which plug-ins they were made."""
    names = sorted(json.loads((run_dir / "model" / "MANIFEST.json").read_text())["files"])
    return {name: (run_dir / "model" / name).read_bytes() for name in names}
