"""`section.key=value` on the command line: each is a line of a small document laid over the file."""

from collections.abc import Sequence
from typing import Any

from pipemlp.config.merging import is_choice, lay_over
from pipemlp.config.origin import COMMAND_LINE, Key, Position
from pipemlp.config.parsing import YamlTextError, flatten, parse_yaml
from pipemlp.config.paths import rebase
from pipemlp.config.reading import Document, Problem
from pipemlp.config.scalars import plain_scalar

_AT = Position(COMMAND_LINE)


def apply_overrides(document: Document, overrides: Sequence[str]) -> Document:
    """`document` with the overrides laid over it; what is wrong with them is added to its problems.

    A value is a YAML 1.2 scalar taken whole (so `data.path=*.csv` needs no quotes), or a list, mapping or quoted
    text if it begins like one. A relative `data.path` is meant from the current folder, and made absolute.
    """
    values: dict[str, Any] = {}
    problems: list[Problem] = []
    for override in overrides:
        try:
            key, value = _split(override)
            _set(values, key, value)
        except ValueError as error:
            problems.append(Problem((), str(error), _AT))
    rebase(values, "", None)
    above = Document(values, dict.fromkeys(_keys(values, ()), _AT), (), tuple(problems))
    return lay_over(document, above)


def _split(override: str) -> tuple[tuple[str, ...], Any]:
    name, equals, text = override.partition("=")
    name, text = name.strip(), text.strip()
    if not equals:
        raise ValueError(f"{override}: no `=`; an override is written section.key=value, such as parallel.stages=2")
    key = tuple(name.split("."))
    if not all(key):
        raise ValueError(f"{override}: no key before `=`; write section.key=value, such as parallel.stages=2")
    if key == ("extends",):
        raise ValueError(f"{override}: extends belongs in the file, not on the command line")
    if not text:
        raise ValueError(f"{override}: no value after `=`; write {name}=null to unset it")
    return key, _value(override, name, text)


def _value(override: str, name: str, text: str) -> Any:
    if text[0] not in "[{'\"":
        return plain_scalar(text)
    try:
        parsed = parse_yaml(text)
        if parsed.node is None:
            return None
        if parsed.refused:
            raise YamlTextError(1, parsed.refused[0][2])
        return flatten(parsed.node)[0]
    except YamlTextError as problem:
        raise ValueError(f"{override}: the value is not readable as YAML: {problem.reason}") from None


def _set(values: dict[str, Any], key: tuple[str, ...], value: Any) -> None:
    inside = values
    for depth, part in enumerate(key[:-1], start=1):
        below = inside.get(part)
        if isinstance(below, str) and is_choice(key[:depth]):
            below = {"name": below}
        inside[part] = below if isinstance(below, dict) else {}
        inside = inside[part]
    inside[key[-1]] = value


def _keys(value: Any, key: Key) -> list[Key]:
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [found for part, inner in items for found in [(*key, part), *_keys(inner, (*key, part))]]
