"""Lays one document over another: mappings merge, everything else replaces.

Three rules make differences read naturally. A mapping with another `name` replaces, because options of one choice
mean nothing to another. A section written as its name counts as `{name: ...}` when options are laid over it.
Of two keys that exclude each other the upper document's counts.
"""

import copy
from typing import Any

from pipemlp.config.origin import Key, Position
from pipemlp.config.reading import Document
from pipemlp.config.structure import annotation_at, arms_of, choice_of

EXCLUSIVE = (
    ("training", "epochs", "steps"),
    ("evaluation", "every_epochs", "every_steps"),
    ("checkpoint", "every_epochs", "every_steps"),
)
"""Section and two of its keys of which only one may be given."""


def lay_over(below: Document, above: Document) -> Document:
    """`below`, changed by everything that `above` says; each value keeps the position it came from."""
    values = copy.deepcopy(below.values)
    positions = dict(below.positions)
    _merge(values, above.values, (), positions, above.positions)
    for section, first, second in EXCLUSIVE:
        for mine, other in ((first, second), (second, first)):
            if _given(above.values, section, mine) and not _given(above.values, section, other):
                _drop(values, section, other, positions)
    return Document(values, positions, (*above.files, *below.files), (*above.problems, *below.problems))


def _given(values: dict[str, Any], section: str, name: str) -> bool:
    inside = values.get(section)
    return isinstance(inside, dict) and inside.get(name) is not None


def _drop(values: dict[str, Any], section: str, name: str, positions: dict[Key, Position]) -> None:
    values[section].pop(name, None)
    positions.pop((section, name), None)


def _merge(
    into: dict[str, Any],
    new: dict[str, Any],
    key: Key,
    positions: dict[Key, Position],
    new_positions: dict[Key, Position],
) -> None:
    for name, value in new.items():
        here = (*key, name)
        old = into.get(name)
        if isinstance(value, dict) and isinstance(old, str) and is_choice(here):
            old = into[name] = {"name": old}
            positions[(*here, "name")] = positions[here]
        if isinstance(old, dict) and isinstance(value, dict) and not _renamed(old, value):
            positions[here] = new_positions[here]
            _merge(old, value, here, positions, new_positions)
            continue
        into[name] = copy.deepcopy(value)
        for stale in [known for known in positions if known[: len(here)] == here]:
            del positions[stale]
        positions.update({known: at for known, at in new_positions.items() if known[: len(here)] == here})


def is_choice(key: Key) -> bool:
    """Whether a key is a choice by name, such as `loss`."""
    annotation = annotation_at(key, None)
    return annotation is not None and any(choice_of(arm) for arm in arms_of(annotation))


def _renamed(old: dict[str, Any], new: dict[str, Any]) -> bool:
    return "name" in new and "name" in old and old["name"] != new["name"]
