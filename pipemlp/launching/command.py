"""The command line that starts all processes of a run on this machine through the `deepspeed` launcher."""

import os
import shlex
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from pipemlp.config.errors import ClusterError, ConfigError

# The launcher silently reads /job/hostfile where that exists. This is no regular file, so it stays on this machine.
_NO_HOSTFILE = "/dev/null"


def local_command(
    config_file: Path,
    num_processes: int,
    master_port: int,
    *,
    arguments: Sequence[str] = (),
    devices: Sequence[int] | None = None,
    command: str = "train",
) -> list[str]:
    """The launcher's command line as a list, with the interpreter that runs now; no shell ever reads it.

    `arguments` follow CONFIG after the command. `devices` are GPU numbers, one per process; None takes the first ones
    (and is right for CPUs). Raises ConfigError for a CONFIG that would be read as an option.
    """
    line = [sys.executable, "-m", "deepspeed.launcher.runner", "--hostfile", _NO_HOSTFILE]
    line += ["--log_level", "critical"]  # its last words on a failure repeat the command, not the cause
    line += _resources(num_processes, devices)
    line += ["--master_port", str(master_port)]
    return line + _worker_arguments(command, config_file, arguments)


def printable_command(
    config_file: Path,
    num_processes: int,
    *,
    arguments: Sequence[str] = (),
    devices: Sequence[int] | None = None,
) -> str:
    """The same as one line to read, or to paste into a shell: what `--print-command` shows."""
    resources = _resources(num_processes, devices)
    return shlex.join(["deepspeed", *resources, *_worker_arguments("train", config_file, arguments)])


def visible_devices(num_processes: int, environ: Mapping[str, str] | None = None) -> tuple[int, ...] | None:
    """The GPUs to use where CUDA_VISIBLE_DEVICES restricts them; None where it is not set.

    The launcher itself ignores that variable once it is told a number of processes. Raises ClusterError where the
    variable names fewer GPUs than there are processes, or holds other things than numbers.
    """
    environ = os.environ if environ is None else environ
    value = environ.get("CUDA_VISIBLE_DEVICES")
    if value is None:
        return None
    entries = [entry.strip() for entry in value.split(",") if entry.strip()]
    if not all(entry.isascii() and entry.isdigit() for entry in entries):
        raise ClusterError(
            f"CUDA_VISIBLE_DEVICES={value}: the deepspeed launcher takes GPU numbers only, such as 0,1; "
            "give numbers, or start the processes with torchrun"
        )
    if len(entries) < num_processes:
        raise ClusterError(
            f"CUDA_VISIBLE_DEVICES={value} shows {len(entries)} GPUs, but {num_processes} processes are needed; "
            "show more GPUs, lower parallel.stages or parallel.data_parallel, or set run.device=cpu"
        )
    return tuple(int(entry) for entry in entries[:num_processes])


def plugin_arguments(plugins: Sequence[str]) -> list[str]:
    """What tells the processes to import the same plug-ins."""
    return [argument for plugin in plugins for argument in ("--plugin", plugin)]


def _resources(num_processes: int, devices: Sequence[int] | None) -> list[str]:
    if devices is None:
        return ["--num_gpus", str(num_processes)]
    if len(devices) != num_processes:
        raise ValueError(f"{len(devices)} devices for {num_processes} processes")
    return ["--include", "localhost:" + ",".join(str(device) for device in devices)]


def _worker_arguments(command: str, config_file: Path, arguments: Sequence[str]) -> list[str]:
    name = str(config_file)
    if name.startswith("-"):
        raise ConfigError(f"{name}: a config file whose name starts with '-' reads as an option; write ./{name}")
    return ["--module", "pipemlp", command, name, *arguments]
