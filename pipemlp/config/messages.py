"""Turns pydantic's errors into problems that name the value, the rule and what would be valid."""

import math
import re
from collections.abc import Callable
from typing import Any, Literal, get_origin

from pydantic import ValidationError

from pipemlp.config.branches import Fault, faults_of
from pipemlp.config.describing import describe, show
from pipemlp.config.origin import Key
from pipemlp.config.reading import Problem
from pipemlp.config.scalars import plain_scalar
from pipemlp.config.structure import annotation_at, arms_of, choice_of, is_section, literals_of, parts_of, section_at
from pipemlp.config.suggesting import did_you_mean, explain_unknown_key


def explain(error: ValidationError, values: Any) -> list[Problem]:
    """One problem per key; `values` is the plain mapping that was validated."""
    problems: dict[Key, Problem] = {}
    for fault in faults_of(error.errors(include_url=False), values):
        if fault.type == "too_short" and len(fault.value) >= fault.context["min_length"]:
            continue  # pydantic counts only the good items; the bad ones are reported themselves
        key, text = _explain(fault, values)
        problems.setdefault(key, Problem(key, text))
    return list(problems.values())


def _explain(fault: Fault, values: Any) -> tuple[Key, str]:
    if fault.type in ("choice_form", "unknown_name"):
        return _explain_choice(fault, values)
    if fault.type == "missing":
        return _explain_missing(fault, values)
    if fault.type == "extra_forbidden":
        return fault.key, explain_unknown_key(fault.key, values)
    if fault.type in _RULES:
        return fault.key, _RULES[fault.type](fault)
    if fault.type == "string_pattern_mismatch":
        return fault.key, f"{show(fault.value)} is not allowed: {_meaning(fault.key, values)}"
    if fault.type in ("mismatch", "literal_error") or fault.type.endswith(("_type", "_parsing", "_from_float")):
        return fault.key, explain_mismatch(fault.value, annotation_at(fault.key, values))
    return fault.key, str(fault.context.get("error", fault.message))


_RULES: dict[str, Callable[[Fault], str]] = {
    "greater_than_equal": lambda fault: f"{show(fault.value)} is too small; at least {fault.context['ge']:g}",
    "greater_than": lambda fault: f"{show(fault.value)} is too small; it must be above {fault.context['gt']:g}",
    "less_than_equal": lambda fault: f"{show(fault.value)} is too large; at most {fault.context['le']:g}",
    "less_than": lambda fault: f"{show(fault.value)} is too large; it must be below {fault.context['lt']:g}",
    "finite_number": lambda fault: f"{show(fault.value)} is not a finite number",
    "too_short": lambda fault: f"{_count(fault, 'actual_length')}; at least {fault.context['min_length']}",
    "too_long": lambda fault: f"{_count(fault, 'actual_length')}; at most {fault.context['max_length']}",
    "string_too_short": lambda fault: f"{show(fault.value)} is too short; at least {_characters(fault, 'min_length')}",
    "string_too_long": lambda fault: f"{show(fault.value)} is too long; at most {_characters(fault, 'max_length')}",
}


def _count(fault: Fault, name: str) -> str:
    number = len(fault.value) if isinstance(fault.value, list) else fault.context[name]
    return f"a list of {number} {'value' if number == 1 else 'values'} is given"


def _characters(fault: Fault, name: str) -> str:
    number = fault.context[name]
    return f"{number} character" if number == 1 else f"{number} characters"


def _own(kind: str) -> str:
    return "; your own are registered by --plugin MODULE" if kind in ("block", "loss", "source") else ""


def _explain_choice(fault: Fault, values: Any) -> tuple[Key, str]:
    """An unknown name, no name, or something that cannot be a name."""
    annotation = annotation_at(fault.key, values)
    found = [choice for arm in arms_of(annotation) if (choice := choice_of(arm))]
    names, kind = found[0].names(), found[0].kind.replace("lr_schedule", "learning-rate schedule")
    in_mapping = isinstance(fault.value, dict)
    key = (*fault.key, "name") if in_mapping else fault.key
    name = fault.value.get("name") if in_mapping else fault.value
    if isinstance(name, str):
        if in_mapping:
            names = tuple(known for known in names if known != "auto")
        near = did_you_mean(name, names)
        return key, f"unknown {kind} {show(name)}{near or '; known are ' + ', '.join(names) + _own(kind)}"
    if in_mapping and "name" not in fault.value:
        return key, f"missing key; known names are {', '.join(name for name in names if name != 'auto')}"
    return key, f"{what(name)}; {describe(annotation) if not in_mapping else 'a name'} is expected"


def _explain_missing(fault: Fault, values: Any) -> tuple[Key, str]:
    *above, last = fault.key
    if isinstance(last, int):
        wanted = describe(annotation_at(tuple(above), values))
        return tuple(above), f"a list of {last} {'value' if last == 1 else 'values'} is given; {wanted} is expected"
    kind = "section" if not above else "key"
    return fault.key, f"missing {kind}; it is required: {_meaning(fault.key, values)}"


def _meaning(key: Key, values: Any) -> str:
    """The first sentence of a key's documentation."""
    inside = values
    for part in key[:-1]:
        inside = inside[part]
    annotation = annotation_at(key[:-1], values)
    model = section_at(annotation, inside)
    field = model.model_fields.get(str(key[-1])) if model else None
    text = ((field.description if field else None) or "").replace("`", "")
    sentence = re.sub(r"\s+", " ", re.split(r"[.;](?=\s|$)", text)[0])
    return sentence[:1].lower() + sentence[1:]


def explain_mismatch(value: Any, annotation: Any) -> str:
    """Why a value of the wrong form is refused, and the nearest that is not."""
    if isinstance(value, float) and not math.isfinite(value):
        return f"{show(value)} is not a finite number"
    arms = [arm for arm in arms_of(annotation) if parts_of(arm)[0] is not type(None)]
    if all(is_section(arm) for arm in arms):
        keys = ", ".join(parts_of(arms[0])[0].model_fields)
        return f"{what(value)}; a mapping is expected, with some of the keys {keys}"
    literals = literals_of(annotation)
    if all(get_origin(parts_of(arm)[0]) is Literal for arm in arms) and not isinstance(value, list | dict | None):
        if len(literals) == 1:
            return f"{show(value)} is not available; {literals[0]} is the only choice"
        return f"{show(value)} is not one of {', '.join(map(str, literals))}{did_you_mean(value, literals)}"
    return f"{what(value)}; {describe(annotation)} is expected{_hint(value, annotation, literals)}"


def what(value: Any) -> str:
    """A value and its form: `"8" is text`."""
    if value is None:
        return "nothing is given"
    if isinstance(value, list):
        return "a list is given"
    if isinstance(value, dict):
        return "a mapping is given"
    if isinstance(value, str):
        return f"{show(value)} is text"
    if isinstance(value, bool):
        return f"{show(value)} is a truth value"
    if isinstance(value, float):
        return f"{show(value)} is written with a fraction"
    return f"{show(value)} is a whole number"


def _hint(value: Any, annotation: Any, literals: tuple[Any, ...]) -> str:
    """What to write instead, where that can be guessed."""
    wants = {parts_of(arm)[0] for arm in arms_of(annotation)}
    if isinstance(value, float) and int in wants and str not in wants:
        if value.is_integer():
            return f"; write {int(value)}"
        return f"; the nearest are {math.floor(value)} and {math.ceil(value)}"
    if isinstance(value, str):
        number = plain_scalar(value.replace("_", "").replace(",", "").strip())
        if wants & {int, float} and isinstance(number, int | float) and not isinstance(number, bool):
            return f"; write {number}"
        if bool in wants and value.lower() in ("yes", "on", "no", "off", "true", "false"):
            return f"; write {'true' if value.lower() in ('yes', 'on', 'true') else 'false'}"
        return did_you_mean(value, literals)
    return ""
