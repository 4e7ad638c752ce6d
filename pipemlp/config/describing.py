"""Says in words which values a key takes, for messages and for the documentation."""

import json
from typing import Any, Literal, get_args, get_origin

from pydantic.fields import FieldInfo

from pipemlp.config.structure import arms_of, choice_of, is_section, parts_of

_SINGULAR = {int: "a whole number", float: "a number", str: "text", bool: "true or false", type(None): "null"}
_PLURAL = {int: "whole numbers", float: "numbers", str: "names"}


def describe(annotation: Any, *, full: bool = False) -> str:
    """What a value must be: `auto or a whole number`; with `full`, ranges and `null` too."""
    arms = [arm for arm in arms_of(annotation) if full or parts_of(arm)[0] is not type(None)]
    return " or ".join(_one(arm, full) for arm in arms)


def _one(annotation: Any, full: bool) -> str:
    choice = choice_of(annotation)
    bare, constraints = parts_of(annotation)
    if choice:
        return f"a name ({', '.join(choice.names())}) or {{name: ..., option: ...}}"
    if get_origin(bare) is Literal:
        return ", ".join(str(value) for value in get_args(bare))
    if get_origin(bare) is tuple:
        return _list(get_args(bare))
    if is_section(annotation):
        return "{" + ", ".join(bare.model_fields) + "}"
    return _SINGULAR.get(bare, "a value") + (_range(constraints) if full else "")


def _list(items: tuple[Any, ...]) -> str:
    number = "" if items[-1] is Ellipsis else f"{len(items)} "
    names = [_PLURAL.get(parts_of(arm)[0]) or _one(arm, False) for arm in arms_of(items[0])]
    return f"a list of {number}{' or '.join(names)}"


def _range(constraints: tuple[Any, ...]) -> str:
    limits = [limit for field in constraints if isinstance(field, FieldInfo) for limit in field.metadata]
    found = []
    for limit in limits:
        for attribute, sign in (("ge", ">="), ("gt", ">"), ("le", "<="), ("lt", "<")):
            bound = getattr(limit, attribute, None)
            if bound is not None:
                found.append(f"{sign} {bound}")
    return f" {' and '.join(found)}" if found else ""


def show(value: Any) -> str:
    """A value as it would stand in the file, shortened."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        return json.dumps(value if len(value) <= 60 else value[:57] + "...", ensure_ascii=not value.isprintable())
    if isinstance(value, int) and abs(value) >= 10**60:
        return f"a number of {len(str(abs(value)))} digits"
    return str(value)
