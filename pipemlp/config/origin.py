"""Where each value of a configuration was written, so that a message can say `configs/a.yaml:12`."""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field

Key = tuple[str | int, ...]
"""The way to a value: mapping keys and list indices, as in `("model", "hidden", 0, "width")`."""

COMMAND_LINE = "command line"


@dataclass(frozen=True)
class Position:
    """A file and a line (from 1); line 0 means the file as a whole, or the command line."""

    file: str
    line: int = 0

    def __str__(self) -> str:
        return f"{self.file}:{self.line}" if self.line else self.file


def format_key(key: Key) -> str:
    """`("model", "hidden", 0, "width")` as a user reads it: `model.hidden[0].width`."""
    text = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in key).removeprefix(".")
    return text if text.isprintable() else json.dumps(text)


def parse_key(text: str) -> Key:
    """The inverse of `format_key`."""
    return tuple(int(part) if part.isdigit() else part for part in re.findall(r"[^.\[\]]+", text))


@dataclass(frozen=True, eq=False)
class Origin:
    """The file of a configuration and the position of each of its keys.

    Any two origins are equal: where a configuration was written is no part of what it says.
    """

    file: str = ""
    positions: Mapping[Key, Position] = field(default_factory=dict)

    def where(self, key: Key) -> Position:
        """The position of `key`, else of the nearest key above it, else the file; empty if made in Python."""
        for length in range(len(key), 0, -1):
            if key[:length] in self.positions:
                return self.positions[key[:length]]
        return Position(self.file)

    def with_section(self, name: str, file: str) -> "Origin":
        """The same with one section from another file, which has no lines that anybody reads."""
        others = {key: position for key, position in self.positions.items() if key[0] != name}
        return Origin(self.file, {**others, (name,): Position(file)})

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Origin)

    def __hash__(self) -> int:
        return hash(Origin)
