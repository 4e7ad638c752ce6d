"""The profile file: a profile as JSON, with what it holds for and a checksum; read back only where it belongs."""

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from pipemlp.config.errors import ConfigError
from pipemlp.planning.machine import Curve, Machine, Network, PatternTimes
from pipemlp.planning.profile import Measurement, Profile
from pipemlp.planning.sealed import Sealed

FILE = Sealed("profile", format=1, key="facts")


def write_profile(path: Path, profile: Profile) -> None:
    """Write the file.

    Raises:
        ConfigError: if it cannot be written.
    """
    body = {
        "facts": dict(profile.facts),
        "machine": asdict(profile.machine),
        "kinds": [[asdict(measurement) for measurement in kind] for kind in profile.kinds],
        "kind_of_layer": list(profile.kind_of_layer),
    }
    try:
        path.write_text(FILE.text(body), encoding="utf-8")
    except OSError as error:
        raise ConfigError(f"{path}: cannot be written: {error.strerror or error}") from error


def read_profile(path: Path) -> Profile:
    """Read the file, whole and unchanged since it was written.

    Raises:
        ConfigError: if it is none, or damaged.
    """
    try:
        return _profile(FILE.read(path.read_text(encoding="utf-8", errors="replace")))
    except FileNotFoundError as error:
        raise ConfigError(f"{path}: no such file; `pipemlp profile CONFIG --output {path}` makes it") from error
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read: {error.strerror or error}") from error
    except ValueError as error:
        raise ConfigError(f"{path}: {error}") from error


def check_facts(path: Path, profile: Profile, expected: Mapping[str, str]) -> None:
    """Refuse a profile that holds for something else.

    Args:
        path: for the message.
        profile: what was read.
        expected: facts by name.

    Raises:
        ConfigError: with all that differs.
    """
    found = dict(profile.facts)
    differences = [
        f"{name} is {found.get(name, 'unknown')} there and {value} here"
        for name, value in expected.items()
        if found.get(name) != value
    ]
    if differences:
        raise ConfigError(f"{path}: is a profile of something else: {'; '.join(differences)}; profile again")


def _profile(body: Mapping[str, Any]) -> Profile:
    machine = dict(body["machine"])
    machine |= {name: _network(machine[name]) for name in ("inside", "between")}
    return Profile(
        machine=Machine(**machine | {"action_seconds": tuple(machine["action_seconds"])}),
        kinds=tuple(tuple(Measurement(**measurement) for measurement in kind) for kind in body["kinds"]),
        kind_of_layer=tuple(body["kind_of_layer"]),
        facts=tuple(body["facts"].items()),
    )


def _network(value: Mapping[str, Any]) -> Network:
    curves = {name: Curve(*map(tuple, value[name].values())) for name in ("message", "reduction")}
    patterns = tuple(
        PatternTimes(each["name"], each["num_replicas"], Curve(*map(tuple, each["seconds"].values())))
        for each in value.get("patterns", ())
    )
    return Network(turn_seconds=value["turn_seconds"], patterns=patterns, **curves)
