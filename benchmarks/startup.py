"""From the command to the first training step: on a machine that never ran the product, and again.

"Never ran" means empty folders for everything that is kept between runs: home, caches, compiled extensions.
The files of the installed packages are as warm as earlier commands left them, in both.
"""

import os
import statistics
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

from cases import CONFIGS

POLL_SECONDS = 0.005
TIMEOUT_SECONDS = 300.0
TARGET_SECONDS = 2.0
OVERRIDES = ("training.epochs=null", "training.steps=2", "lr_schedule=constant")


@dataclass(frozen=True)
class Startup:
    """Seconds from the command to the first line of metrics.jsonl, one pair per round."""

    first: tuple[float, ...]
    second: tuple[float, ...]

    @property
    def difference(self) -> float:
        """Median of first minus second."""
        return statistics.median(a - b for a, b in zip(self.first, self.second, strict=True))


def measure_startup(folder: Path, num_rounds: int) -> Startup:
    """`num_rounds` times a first start with empty folders, then a second with what it left."""
    first, second = [], []
    for index in range(num_rounds):
        home = folder / f"home-{index}"
        home.mkdir()
        first.append(_seconds_to_first_step(home, folder / f"first-{index}"))
        second.append(_seconds_to_first_step(home, folder / f"second-{index}"))
    return Startup(tuple(first), tuple(second))


def _seconds_to_first_step(home: Path, run_dir: Path) -> float:
    environment = {
        name: value for name, value in os.environ.items() if not name.startswith(("RANK", "LOCAL_", "WORLD_"))
    }
    environment |= {
        "HOME": str(home),
        "XDG_CACHE_HOME": str(home / "cache"),
        "TORCH_EXTENSIONS_DIR": str(home / "extensions"),
        "TRITON_CACHE_DIR": str(home / "triton"),
    }
    command = [sys.executable, "-m", "pipemlp", "train", str(CONFIGS / "digits.yaml"), *OVERRIDES, f"run.dir={run_dir}"]
    log = run_dir.with_suffix(".log")
    with log.open("wb") as output:
        started = time.perf_counter()
        process = subprocess.Popen(command, env=environment, stdout=output, stderr=output, stdin=subprocess.DEVNULL)
        try:
            seconds = _wait_for_line(run_dir / "metrics.jsonl", process, started)
            process.wait(timeout=TIMEOUT_SECONDS)
        finally:
            if process.poll() is None:
                process.terminate()
                process.wait()
    if seconds is None or process.returncode != 0:
        raise RuntimeError(f"{' '.join(command)} ended with {process.returncode}:\n{log.read_text()[-2000:]}")
    return seconds


def _wait_for_line(metrics: Path, process: subprocess.Popen[bytes], started: float) -> float | None:
    """Seconds until the file has a first line; None if the process ended without."""
    while time.perf_counter() - started < TIMEOUT_SECONDS:
        if metrics.exists() and metrics.stat().st_size > 0:
            return time.perf_counter() - started
        if process.poll() is not None:
            return None
        time.sleep(POLL_SECONDS)
    return None
