"""Collapses the errors that pydantic reports for every alternative of a union into those of the one meant."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pipemlp.config.origin import Key

_SHAPE_ERRORS = ("literal_error", "model_type", "none_required")


@dataclass(frozen=True)
class Fault:
    """One pydantic error at the key the user wrote; `type` is `mismatch` if no alternative has the value's form."""

    key: Key
    type: str
    value: Any
    message: str
    context: Mapping[str, Any]


@dataclass(frozen=True)
class _Located:
    steps: tuple[tuple[bool, str | int], ...]
    """The way to the fault; True marks a key of the user's, False the label of an alternative."""
    fault: Fault


def faults_of(errors: Sequence[Mapping[str, Any]], values: Any) -> list[Fault]:
    """The faults, one per key, of pydantic errors about the plain `values`."""
    return _collapse([_locate(error, values) for error in errors], 0)


def _locate(error: Mapping[str, Any], values: Any) -> _Located:
    steps: list[tuple[bool, str | int]] = []
    location = error["loc"]
    for index, part in enumerate(location):
        last = index == len(location) - 1
        if isinstance(values, dict) and part in values:
            values = values[part]
            steps.append((True, part))
        elif isinstance(part, int) and isinstance(values, list):
            values = values[part] if part < len(values) else None
            steps.append((True, part))
        else:
            steps.append((last and error["type"] == "missing", part))
    key = tuple(part for is_key, part in steps if is_key)
    return _Located(tuple(steps), Fault(key, error["type"], error["input"], error["msg"], error.get("ctx", {})))


def _collapse(located: list[_Located], depth: int) -> list[Fault]:
    """All share their first `depth` steps. Groups them by the next step; of alternatives one survives."""
    groups: dict[tuple[bool, str | int] | None, list[_Located]] = {}
    for one in located:
        groups.setdefault(one.steps[depth] if len(one.steps) > depth else None, []).append(one)
    alternatives = [group for step, group in groups.items() if step and not step[0]]
    faults: list[Fault] = []
    for step, group in groups.items():
        if step is None:
            faults.extend(one.fault for one in group)
        elif step[0]:
            faults.extend(_collapse(group, depth + 1))
    if alternatives:
        meant = [group for group in alternatives if not _other_form(group, depth + 1)]
        if meant:
            faults.extend(_collapse(min(meant, key=len), depth + 1))
        else:
            first = alternatives[0][0].fault
            faults.append(Fault(first.key, "mismatch", first.value, "", {}))
    return faults


def _other_form(group: list[_Located], depth: int) -> bool:
    """Whether an alternative failed because the value as a whole has another form."""
    return any(
        len(one.steps) == depth and (one.fault.type in _SHAPE_ERRORS or one.fault.type.endswith("_type"))
        for one in group
    )
