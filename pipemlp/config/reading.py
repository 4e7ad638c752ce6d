"""A YAML file to plain values with the position of every key; what cannot be read is a `ConfigError`."""

import difflib
import os
from dataclasses import dataclass
from typing import Any

from pipemlp.config.errors import ConfigError
from pipemlp.config.origin import Key, Position, format_key
from pipemlp.config.parsing import Node, YamlTextError, flatten, parse_yaml

MAX_BYTES = 1_000_000


@dataclass(frozen=True)
class Problem:
    """Something wrong with one key. `position` is known while reading; later it follows from the key."""

    key: Key
    text: str
    position: Position | None = None


@dataclass(frozen=True)
class Document:
    """What a file says: plain values, where each key stands, the files read, and what was refused."""

    values: dict[str, Any]
    positions: dict[Key, Position]
    files: tuple[str, ...] = ()
    problems: tuple[Problem, ...] = ()


def read_yaml(path: str | os.PathLike[str]) -> Document:
    """Read a YAML 1.2 file with a mapping at its top.

    Raises:
        ConfigError: if the file cannot be read, is not such YAML, or sets a key twice.
    """
    document = scan_yaml(path)
    if document.problems:
        raise ConfigError(f"{one.position}: {format_key(one.key)}: {one.text}" for one in document.problems)
    return document


def scan_yaml(path: str | os.PathLike[str]) -> Document:
    """Like `read_yaml`, but keys that were refused are listed in `problems` so that reading goes on.

    Raises:
        ConfigError: if nothing can be made of the file.
    """
    file = os.fspath(path)
    text = _text(file)
    try:
        parsed = parse_yaml(text)
        node = _mapping(parsed.node, file)
        values, lines = flatten(node)
    except YamlTextError as problem:
        raise ConfigError(f"{file}:{problem.line}: not readable as YAML: {problem.reason}") from None
    return Document(
        values,
        {key: Position(file, line) for key, line in lines.items()},
        (file,),
        tuple(Problem(key, reason, Position(file, line)) for key, line, reason in parsed.refused),
    )


def _mapping(node: Node | None, file: str) -> Node:
    if node is None or node.value is None:
        raise ConfigError(f"{file}: the file is empty; a config needs at least the sections data and model")
    if not isinstance(node.value, dict):
        kind = "a list" if isinstance(node.value, list) else "a single value"
        raise ConfigError(f"{file}:{node.line}: {kind} at the top; a config is a mapping of sections (data: ...)")
    return node


def _text(file: str) -> str:
    try:
        with open(file, "rb") as stream:
            content = stream.read(MAX_BYTES + 1)
    except FileNotFoundError:
        raise ConfigError(f"{file}: no such file{_near(file)}") from None
    except IsADirectoryError:
        raise ConfigError(f"{file}: a directory, not a file{_inside(file)}") from None
    except (OSError, ValueError) as error:
        raise ConfigError(f"{file}: cannot be read: {getattr(error, 'strerror', None) or error}") from None
    if len(content) > MAX_BYTES:
        raise ConfigError(f"{file}: larger than {MAX_BYTES:,} bytes; this is not a config")
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line, byte = content.count(b"\n", 0, error.start) + 1, content[error.start]
        raise ConfigError(f"{file}:{line}: not UTF-8 text (byte 0x{byte:02x}); save it as UTF-8") from None


def _yaml_files(folder: str) -> list[str]:
    try:
        return sorted(name for name in os.listdir(folder or ".") if name.endswith((".yaml", ".yml")))
    except OSError:
        return []


def _near(file: str) -> str:
    folder, name = os.path.split(file)
    if folder and not os.path.isdir(folder):
        return f"; there is no folder {folder} here ({os.getcwd()})"
    near = difflib.get_close_matches(name, _yaml_files(folder), n=1, cutoff=0.8)
    return f"; did you mean {os.path.join(folder, near[0])}?" if near else ""


def _inside(folder: str) -> str:
    names = _yaml_files(folder)
    return f"; give one of its files, such as {os.path.join(folder, names[0])}" if names else ""
