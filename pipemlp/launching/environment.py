"""What a launcher tells each process through its environment, and what we tell the launcher through its own."""

import os
from collections.abc import Mapping
from dataclasses import dataclass

from pipemlp.config.errors import ClusterError

SUPERVISOR_PID = "PIPEMLP_SUPERVISOR_PID"
"""Variable that holds the pid of the `pipemlp train` that started the launcher."""

_RANK_VARIABLES = ("RANK", "LOCAL_RANK", "WORLD_SIZE")
_LOCAL_SIZE_VARIABLES = ("LOCAL_WORLD_SIZE", "LOCAL_SIZE")  # torchrun's word, deepspeed's word
_OTHER_VARIABLES = ("MASTER_ADDR", "MASTER_PORT", "CROSS_RANK", "CROSS_SIZE")
_LAUNCHER_VARIABLES = (*_RANK_VARIABLES, *_LOCAL_SIZE_VARIABLES, *_OTHER_VARIABLES)


@dataclass(frozen=True)
class WorkerEnvironment:
    """Who this process is among all processes of the run, and where they meet."""

    rank: int
    local_rank: int
    world_size: int
    local_world_size: int
    master_addr: str
    master_port: int

    @classmethod
    def from_environ(cls, environ: Mapping[str, str] | None = None) -> "WorkerEnvironment | None":
        """Read the variables that deepspeed and torchrun set; None unless RANK, LOCAL_RANK and WORLD_SIZE are all set.

        Without LOCAL_WORLD_SIZE and LOCAL_SIZE all processes are taken to be on one machine. Raises ClusterError, with
        every problem, where the values are not numbers or contradict each other.
        """
        environ = os.environ if environ is None else environ
        if any(name not in environ for name in _RANK_VARIABLES):
            return None
        problems: list[str] = []
        local_size = next((name for name in _LOCAL_SIZE_VARIABLES if name in environ), "WORLD_SIZE")
        names = (*_RANK_VARIABLES, local_size, "MASTER_PORT")
        numbers = {name: _number(environ, name, problems) for name in names}
        if not environ.get("MASTER_ADDR"):
            problems.append("MASTER_ADDR is not set; it names the host of rank 0, such as 127.0.0.1")
        if not problems:
            problems = _contradictions(numbers, local_size)
        if problems:
            raise ClusterError(problems)
        return cls(
            rank=numbers["RANK"],
            local_rank=numbers["LOCAL_RANK"],
            world_size=numbers["WORLD_SIZE"],
            local_world_size=numbers[local_size],
            master_addr=environ["MASTER_ADDR"],
            master_port=numbers["MASTER_PORT"],
        )

    @property
    def is_on_loopback(self) -> bool:
        """Whether all processes are on this machine and rank 0 serves them; torchrun's agent serves its own."""
        alone = self.world_size == self.local_world_size and self.master_addr in ("127.0.0.1", "localhost")
        return alone and "TORCHELASTIC_RUN_ID" not in os.environ


def launcher_environment(device: str, environ: Mapping[str, str] | None = None) -> dict[str, str]:
    """The environment for a launcher on this machine; `device` is `cpu` or `cuda`.

    Traces of another launcher are removed. So is CUDA_VISIBLE_DEVICES: the launcher sets it itself, and says aloud
    that it ignores ours (`local_command` hands the devices on). On CPUs the accelerator is named, or every process
    would warn that it found none.
    """
    result = dict(os.environ if environ is None else environ)
    for name in (*_LAUNCHER_VARIABLES, "CUDA_VISIBLE_DEVICES"):
        result.pop(name, None)
    if device == "cpu":
        result["DS_ACCELERATOR"] = "cpu"
    return result


def _number(environ: Mapping[str, str], name: str, problems: list[str]) -> int:
    value = environ.get(name)
    if value is None:
        problems.append(f"{name} is not set; the launcher sets it beside RANK")
    elif not (value.isascii() and value.isdigit()):
        problems.append(f"{name}={value!r} is not a number; 0, 1, 2, ... is expected")
    else:
        return int(value)
    return 0


def _contradictions(numbers: Mapping[str, int], local_size: str) -> list[str]:
    problems = []
    for smaller, larger in (("RANK", "WORLD_SIZE"), ("LOCAL_RANK", local_size)):
        if numbers[smaller] >= numbers[larger]:
            problems.append(
                f"{smaller}={numbers[smaller]} with {larger}={numbers[larger]}: ranks go from 0 to {larger} - 1"
            )
    if numbers[local_size] > numbers["WORLD_SIZE"]:
        problems.append(f"{local_size}={numbers[local_size]} is more than WORLD_SIZE={numbers['WORLD_SIZE']}")
    if not 1 <= numbers["MASTER_PORT"] <= 65535:
        problems.append(f"MASTER_PORT={numbers['MASTER_PORT']} is not a port; use 1024 to 65535")
    return problems
