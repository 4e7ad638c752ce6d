"""Host files (`host slots=N` per line), read more strictly than the launcher reads them."""

import re
import sys
from dataclasses import dataclass
from pathlib import Path

from pipemlp.config.errors import ClusterError

# The launcher puts the name into an ssh command line, where a leading dash would be an option that runs commands.
_HOST_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
_SLOTS = re.compile(r"slots=([0-9]+)")


@dataclass(frozen=True)
class Host:
    """One machine and the number of processes it takes."""

    name: str
    slots: int


def read_hostfile(path: Path | str) -> tuple[Host, ...]:
    """The hosts of a file in their order; raises ClusterError with every problem, each with file and line.

    All hosts have the same number of slots: the launcher takes local ranks as rank modulo slots, which is wrong
    otherwise.
    """
    hosts: list[Host] = []
    problems: list[str] = []
    lines_by_name: dict[str, int] = {}
    for number, text in enumerate(_lines(Path(path)), start=1):
        fields = text.partition("#")[0].split()
        if not fields:
            continue
        parsed = _parse(fields)
        if isinstance(parsed, str):
            problems.append(f"{path}:{number}: {parsed}")
        elif parsed.name in lines_by_name:
            problems.append(
                f"{path}:{number}: {parsed.name} is already on line {lines_by_name[parsed.name]}; name it once"
            )
        else:
            if hosts and parsed.slots != hosts[0].slots:
                problems.append(
                    f"{path}:{number}: {parsed.name} has slots={parsed.slots}, but {hosts[0].name} has "
                    f"slots={hosts[0].slots}; give every host the same number"
                )
            lines_by_name[parsed.name] = number
            hosts.append(parsed)
    if not hosts and not problems:
        problems.append(f"{path}: names no host; write one line per host, such as: worker-1 slots=8")
    if problems:
        raise ClusterError(problems)
    return tuple(hosts)


def _lines(path: Path) -> list[str]:
    try:
        return path.read_text(encoding="utf-8").split("\n")  # as the launcher does, unlike splitlines
    except FileNotFoundError as error:
        raise ClusterError(f"{path}: there is no such hostfile; launch/hostfile.example shows one") from error
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not a text file"
        raise ClusterError(f"{path}: cannot read the hostfile ({reason})") from error


def _parse(fields: list[str]) -> Host | str:
    """A host, or what is wrong with the line."""
    if not _HOST_NAME.fullmatch(fields[0]):
        return f"{fields[0]!r} is not a host name; use letters, digits, dots, dashes and underscores, no leading dash"
    slots = _SLOTS.fullmatch(fields[1]) if len(fields) == 2 else None
    if slots is None:
        return f"{' '.join(fields)!r} is not of the form HOST slots=N, such as {fields[0]} slots=8"
    if int(slots[1]) < 1:
        return f"{fields[0]} has slots=0; a host takes at least 1 process"
    return Host(fields[0], int(slots[1]))


def main(arguments: list[str]) -> int:
    """Check the file that is the only argument; print what it holds and return the exit code."""
    if len(arguments) != 1:
        print("usage: python -m pipemlp.launching.hostfile FILE", file=sys.stderr)
        return 2
    try:
        hosts = read_hostfile(arguments[0])
    except ClusterError as error:
        print(error, file=sys.stderr)
        return error.exit_code
    total = sum(host.slots for host in hosts)
    print(f"{arguments[0]}: {len(hosts)} hosts x {hosts[0].slots} slots = {total} processes")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
