"""What the devices of this machine call themselves, found without torch."""

import platform
from pathlib import Path

_CPU = Path("/proc/cpuinfo")
_GPUS = Path("/proc/driver/nvidia/gpus")


def cpu_name(file: Path = _CPU) -> str:
    """The processor's model, as far as the system tells: `AMD EPYC 7763 64-Core Processor`."""
    return _value(file, "model name") or platform.processor() or platform.machine()


def gpu_name(folder: Path = _GPUS) -> str | None:
    """The model of the first NVIDIA GPU, such as `NVIDIA H200`; None where the driver tells of none."""
    names = (_value(file, "Model") for file in sorted(folder.glob("*/information")))
    return next((name for name in names if name), None)


def _value(file: Path, key: str) -> str | None:
    """The first value of a key in a file of `key : value` lines."""
    try:
        lines = file.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return None
    pairs = (line.partition(":") for line in lines)
    return next((value.strip() for own, _, value in pairs if own.strip() == key), None)
