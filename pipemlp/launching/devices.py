"""What this machine can compute on, found without torch."""

import os
from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path


def num_gpus(environ: Mapping[str, str] | None = None, devices: Path = Path("/dev")) -> int:
    """GPUs that torch could use here: visible NVIDIA devices, none for a CPU build of torch."""
    environ = os.environ if environ is None else environ
    try:
        if version("torch").endswith("+cpu"):
            return 0
    except PackageNotFoundError:
        return 0
    present = sum(1 for path in devices.glob("nvidia*") if path.name.removeprefix("nvidia").isdigit())
    visible = environ.get("CUDA_VISIBLE_DEVICES")
    if visible is None:
        return present
    return min(present, len([entry for entry in visible.split(",") if entry.strip() and entry.strip() != "-1"]))


def num_cores() -> int:
    """CPU cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def device_of_run(wanted: str) -> str:
    """`cpu` or `cuda` for `run.device`: what `auto` stands for on this machine."""
    return wanted if wanted != "auto" else "cuda" if num_gpus() else "cpu"
