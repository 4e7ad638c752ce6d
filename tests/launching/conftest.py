import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import psutil
import pytest

CHILDREN = Path(__file__).with_name("children")
ROOT = Path(__file__).parents[2]
WAIT_SECONDS = 60.0


def wait_until(condition: Callable[[], object], what: str) -> None:
    deadline = time.monotonic() + WAIT_SECONDS
    while not condition():
        if time.monotonic() > deadline:
            raise AssertionError(f"waited {WAIT_SECONDS:g} s for {what}")
        time.sleep(0.01)


@dataclass
class Tree:
    """Imitated launcher processes, by name: supervisor, runner, launch, worker-N, child-N."""

    run_dir: Path
    notes: Path

    def environment(self) -> dict[str, str]:
        path = os.pathsep.join([str(CHILDREN), str(ROOT)])
        return {**os.environ, "PYTHONPATH": path, "RUN_DIR": str(self.run_dir), "NOTES": str(self.notes)}

    def start(self, script: str, *arguments: str) -> subprocess.Popen[str]:
        command = [sys.executable, str(CHILDREN / script), *arguments]
        return subprocess.Popen(command, env=self.environment(), text=True, stderr=subprocess.PIPE)

    def supervise(self, *modes: str, grace_seconds: float = 30.0) -> subprocess.Popen[str]:
        """Start a supervisor over one worker per mode, and wait until all of them run."""
        supervisor = self.start("supervisor.py", str(self.run_dir), str(grace_seconds), *modes)
        notes = [self.notes / f"worker-{rank}.pid" for rank in range(len(modes))]
        wait_until(
            lambda: supervisor.poll() is not None or all(note.exists() for note in notes), "the workers to start"
        )
        return supervisor

    def wait_for(self, *names: str) -> None:
        for name in names:
            wait_until((self.notes / f"{name}.pid").exists, f"{name} to start")

    def kill(self, name: str, signum: int = signal.SIGKILL) -> None:
        self.wait_for(name)
        os.kill(int((self.notes / f"{name}.pid").read_text().split()[0]), signum)

    def alive(self) -> list[str]:
        return [path.stem for path in sorted(self.notes.glob("*.pid")) if self._process(path) is not None]

    def wait_for_end(self) -> None:
        wait_until(lambda: not self.alive(), "all processes to end")

    def _process(self, path: Path) -> psutil.Process | None:
        pid, created = path.read_text().split()
        try:
            process = psutil.Process(int(pid))
            same = process.create_time() == float(created) and process.status() != psutil.STATUS_ZOMBIE
        except psutil.NoSuchProcess:
            return None
        return process if same else None

    def end(self) -> None:
        for path in self.notes.glob("*.pid"):
            if (process := self._process(path)) is not None:
                process.kill()


@pytest.fixture
def tree(tmp_path: Path) -> Iterator[Tree]:
    (tmp_path / "notes").mkdir()
    tree = Tree(tmp_path / "run", tmp_path / "notes")
    yield tree
    tree.end()
