"""Walks the configuration models along a key: which section, which choice, which annotation is there."""

from collections.abc import Iterator
from functools import cache
from types import UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin, get_type_hints

from pipemlp.config.origin import Key
from pipemlp.config.registry import Choice, names_of, options_of
from pipemlp.config.root import RunConfig
from pipemlp.config.section import Section


@cache
def _hints(model: type[Section]) -> dict[str, Any]:
    hints = get_type_hints(model, include_extras=True)
    return {name: hints.get(name, info.annotation) for name, info in model.model_fields.items()}


def annotation_of(model: type[Section], name: str) -> Any:
    """The annotation of a field, with its constraints."""
    return _hints(model)[name]


def parts_of(annotation: Any) -> tuple[Any, tuple[Any, ...]]:
    """An annotation without its constraints, and the constraints."""
    if get_origin(annotation) is Annotated:
        bare, *constraints = get_args(annotation)
        inner, more = parts_of(bare)
        return inner, (*more, *constraints)
    return annotation, ()


def arms_of(annotation: Any) -> tuple[Any, ...]:
    """The alternatives of a union, flat; a single one for anything else. A choice by name is one alternative."""
    bare, _ = parts_of(annotation)
    if choice_of(annotation) or get_origin(bare) not in (Union, UnionType):
        return (annotation,)
    return tuple(arm for part in get_args(bare) for arm in arms_of(part))


def choice_of(annotation: Any) -> Choice | None:
    """The choice by name that an annotation, or one arm of it, makes."""
    _, constraints = parts_of(annotation)
    for constraint in constraints:
        if isinstance(constraint, Choice):
            return constraint
    return None


def is_section(annotation: Any) -> bool:
    """Whether an annotation is a section model."""
    bare, _ = parts_of(annotation)
    return isinstance(bare, type) and issubclass(bare, Section)


def literals_of(annotation: Any) -> tuple[Any, ...]:
    """All fixed values that an annotation allows, names of choices included."""
    found: list[Any] = []
    for arm in arms_of(annotation):
        choice = choice_of(arm)
        if choice:
            found.extend(choice.names())
        elif get_origin(parts_of(arm)[0]) is Literal:
            found.extend(get_args(parts_of(arm)[0]))
    return tuple(found)


def section_at(annotation: Any, value: Any) -> type[Section] | None:
    """The section model that `value` (plain, as read) would be checked against."""
    for arm in arms_of(annotation):
        choice = choice_of(arm)
        if choice:
            name = value.get("name", choice.default) if isinstance(value, dict) else value
            return options_of(choice.kind, name) if name in names_of(choice.kind) else None
        if is_section(arm):
            model: type[Section] = parts_of(arm)[0]
            return model
    return None


def annotation_at(key: Key, values: Any) -> Any | None:
    """The annotation at `key`, or None where no model knows the key. `values` are plain, as read."""
    annotation: Any = RunConfig
    for part in key:
        if isinstance(part, int):
            annotation = item_of(annotation)
            values = values[part] if isinstance(values, list) and part < len(values) else None
        else:
            model = section_at(annotation, values)
            if model is None or part not in model.model_fields:
                return None
            annotation = annotation_of(model, part)
            values = values.get(part) if isinstance(values, dict) else None
        if annotation is None:
            return None
    return annotation


def item_of(annotation: Any) -> Any | None:
    """What a list holds, or None where no list is allowed."""
    for arm in arms_of(annotation):
        bare, _ = parts_of(arm)
        if get_origin(bare) is tuple:
            return get_args(bare)[0]
    return None


def known_keys() -> Iterator[tuple[Key, str | None]]:
    """Every key of every section, once: its way from the top, and the named choice it is an option of."""

    def walk(model: type[Section], key: Key, choice: str | None) -> Iterator[tuple[Key, str | None]]:
        for name in model.model_fields:
            here = (*key, name)
            if not (choice and name == "name"):
                yield here, choice
            for arm in arms_of(annotation_of(model, name)):
                made = choice_of(arm)
                if made:
                    for option in names_of(made.kind):
                        yield from walk(options_of(made.kind, option), here, option)
                elif is_section(arm):
                    yield from walk(parts_of(arm)[0], here, None)

    return walk(RunConfig, (), None)
