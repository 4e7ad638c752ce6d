"""YAML text to plain values with their lines, refusing what a configuration has no use for.

Built on ruamel's event stream rather than its constructors, so that every key keeps its line, no tag can make
an object, and an alias is copied only up to a bound.
"""

import warnings
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.error import MarkedYAMLError, YAMLError
from ruamel.yaml.events import (
    AliasEvent,
    DocumentStartEvent,
    MappingEndEvent,
    MappingStartEvent,
    ScalarEvent,
    SequenceEndEvent,
    SequenceStartEvent,
)

from pipemlp.config.origin import Key
from pipemlp.config.scalars import Scalar, plain_scalar

MAX_VALUES = 100_000
MAX_DEPTH = 50

_FRIENDLY = {
    "mapping values are not allowed here": "a second `key: value` inside a value; check the indentation, or quote "
    "text that contains `: `",
    "found character '\\t' that cannot start any token": "a tab; indent with spaces",
    "found character '@' that cannot start any token": "text that begins with @ needs quotes",
    "found character '`' that cannot start any token": "text that begins with ` needs quotes",
    "found character '%' that cannot start any token": "text that begins with % needs quotes",
}


class YamlTextError(Exception):
    """The text cannot be read any further; `line` counts from 1."""

    def __init__(self, line: int, reason: str) -> None:
        super().__init__(reason)
        self.line = line
        self.reason = reason


@dataclass(frozen=True)
class Node:
    """A value and the line on which it, or its key, stands."""

    value: "Scalar | list[Node] | dict[str, Node]"
    line: int


@dataclass(frozen=True)
class Parsed:
    """What a text says: the value at the top, and keys that were refused on the way (key, line, reason)."""

    node: Node | None
    refused: tuple[tuple[Key, int, str], ...]


@dataclass
class _Reader:
    events: Iterator[Any]
    anchors: dict[str, Node] = field(default_factory=dict)
    refused: list[tuple[Key, int, str]] = field(default_factory=list)

    def node(self, event: Any, key: Key) -> Node:
        line = event.start_mark.line + 1
        if isinstance(event, AliasEvent):
            if event.anchor not in self.anchors:
                raise YamlTextError(line, f"*{event.anchor} stands for nothing: no &{event.anchor} ends before it")
            return Node(self.anchors[event.anchor].value, line)
        tag = getattr(event, "tag", None)
        if tag is not None:
            short = str(tag).replace("tag:yaml.org,2002:", "!!")
            self.refused.append((key, line, f"the tag {short} is not allowed; write the value alone"))
        if len(key) >= MAX_DEPTH:
            raise YamlTextError(line, f"nested more than {MAX_DEPTH} levels deep")
        if isinstance(event, ScalarEvent):
            text = _whole_characters(event.value, line)
            made = Node(plain_scalar(text) if event.style is None and tag is None else text, line)
        elif isinstance(event, SequenceStartEvent):
            made = Node(self._items(key), line)
        else:
            made = Node(self._entries(key), line)
        if event.anchor is not None:
            self.anchors[event.anchor] = made
        return made

    def _items(self, key: Key) -> list[Node]:
        items: list[Node] = []
        while not isinstance(event := next(self.events), SequenceEndEvent):
            items.append(self.node(event, (*key, len(items))))
        return items

    def _entries(self, key: Key) -> dict[str, Node]:
        entries: dict[str, Node] = {}
        while not isinstance(event := next(self.events), MappingEndEvent):
            line = event.start_mark.line + 1
            name = self._name(event, key)
            value = self.node(next(self.events), (*key, name or "?"))
            if name is None:
                continue
            if name in entries:
                first = entries[name].line
                self.refused.append(((*key, name), line, f"key set twice; first on line {first}"))
            else:
                entries[name] = Node(value.value, line)
        return entries

    def _name(self, event: Any, key: Key) -> str | None:
        """The text of a mapping key, or None (after taking note) for a key that is not text."""
        line = event.start_mark.line + 1
        if isinstance(event, ScalarEvent):
            if event.style is None and event.value == "<<":
                reason = "merge keys are not read; use `extends`, or write the keys out"
                self.refused.append(((*key, "<<"), line, reason))
                return None
            return _whole_characters(event.value, line)
        self.node(event, key)
        self.refused.append(((*key, "?"), line, "a key must be text, not a list, mapping or alias"))
        return None


def _whole_characters(text: str, line: int) -> str:
    """Joins the two halves of a character that JSON writes as `\\ud83d\\ude00`; half a character is refused."""
    try:
        return text.encode("utf-16", "surrogatepass").decode("utf-16")
    except UnicodeDecodeError:
        raise YamlTextError(line, "half a character (\\ud800 to \\udfff without its other half)") from None


def parse_yaml(text: str) -> Parsed:
    """Read one YAML 1.2 document.

    Raises:
        YamlTextError: if it is not YAML, holds more than one document, or is nested too deeply.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # an anchor set twice is legal; the later one counts
        try:
            return _read_document(text)
        except MarkedYAMLError as error:
            mark = error.problem_mark or error.context_mark
            problem = str(error.problem or error.context).strip()
            if problem.endswith(("<stream end>'", "end of stream")) and error.context_mark:
                opened = error.context_mark.index < mark.index
                mark = error.context_mark
                problem = f"a bracket or quote opened {'here' if opened else 'before'} is never closed"
            raise YamlTextError(mark.line + 1 if mark else 1, _FRIENDLY.get(problem, problem)) from None
        except YAMLError as error:  # a character that no YAML text may hold
            line = text.count("\n", 0, getattr(error, "position", 0) or 0) + 1
            raise YamlTextError(line, "a control character that YAML does not allow") from None


def _read_document(text: str) -> Parsed:
    reader = _Reader(iter(YAML(typ="safe", pure=True).parse(text)))
    node: Node | None = None
    documents = 0
    for event in reader.events:
        if isinstance(event, DocumentStartEvent):
            documents += 1
            if documents > 1:
                raise YamlTextError(event.start_mark.line + 1, "a second document (---); a config is one document")
        elif isinstance(event, AliasEvent | ScalarEvent | SequenceStartEvent | MappingStartEvent):
            node = reader.node(event, ())
    return Parsed(node, tuple(reader.refused))


def flatten(node: Node) -> tuple[Any, dict[Key, int]]:
    """Plain Python values, and the line of every key.

    Raises:
        YamlTextError: if aliases blow the text up to more than `MAX_VALUES` values.
    """
    lines: dict[Key, int] = {}

    def plain(part: Node, key: Key) -> Any:
        if len(lines) > MAX_VALUES:
            raise YamlTextError(part.line, f"more than {MAX_VALUES:,} values once aliases are written out")
        if len(key) > MAX_DEPTH:
            raise YamlTextError(part.line, f"nested more than {MAX_DEPTH} levels deep")
        lines[key] = part.line
        if isinstance(part.value, list):
            return [plain(item, (*key, index)) for index, item in enumerate(part.value)]
        if isinstance(part.value, dict):
            return {name: plain(item, (*key, name)) for name, item in part.value.items()}
        return part.value

    values = plain(node, ())
    del lines[()]
    return values, lines
