"""Writes down who runs, so that a test can find the process, and see afterwards that it is gone."""

import os
from pathlib import Path

import psutil


def note(name: str, pid: int | None = None) -> None:
    folder = Path(os.environ["NOTES"])
    process = psutil.Process(os.getpid() if pid is None else pid)
    temporary = folder / f".{name}"
    temporary.write_text(f"{process.pid} {process.create_time()!r}")
    temporary.replace(folder / f"{name}.pid")
