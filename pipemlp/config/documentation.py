"""Writes docs/configuration.md from the documentation of the fields.

Regenerate: `python -m pipemlp.config.documentation > docs/configuration.md`.
"""

import re
import sys
from collections.abc import Iterator
from typing import Any

from pydantic.fields import FieldInfo

from pipemlp.config.describing import describe
from pipemlp.config.registry import names_of, options_of
from pipemlp.config.root import RunConfig
from pipemlp.config.section import Named, Section
from pipemlp.config.structure import annotation_of, arms_of, choice_of, is_section, item_of, parts_of

_INTRODUCTION = """\
# Configuration

<!-- Generated from the field documentation: python -m pipemlp.config.documentation > docs/configuration.md -->

A run is described by one YAML file. Only `data` and `model` are required; every other key has a default.
`pipemlp validate CONFIG` checks a file without training, `pipemlp schema` prints its JSON schema for editors.

1. **`parallel` says how a run is executed, never what it computes.** Changing it changes numbers by rounding only.
2. **`auto` means decided before the run** and written to `config.resolved.yaml` in the run directory.
3. **A choice with a `name` may be written as the name**: `loss: mse` is `loss: {name: mse}`. A mapping without
   a name gives options to the default choice.
4. **`extends: other.yaml`** takes another file (relative to this one) and changes what this one says. Mappings merge;
   everything else, lists included, replaces. A mapping with another `name` replaces too. Of `epochs` and `steps`
   (`every_epochs` and `every_steps`), which exclude each other, this file's counts.
5. **`section.key=value` on the command line** is one more layer laid over the file, by the same rules:
   `lr_schedule=cosine`, `loss.label_smoothing=0.1`, `model.hidden=[512, 256]`, `training.clip_norm=null`, and
   `training.steps=100` (the file's `epochs` then no longer counts).
6. **No code and no import paths**: names only. A plug-in can register more names.

The file is YAML 1.2: `1e-4` is a number, `off` and `yes` are text, only `true` and `false` are truth values, a key set
twice is an error, and so are unknown keys. Numbers are written without `_`. A relative `data.path` is relative to the
file that has it, or to the current folder when given on the command line; `run.dir` is relative to the current folder.
"""


def configuration_markdown() -> str:
    """The page docs/configuration.md: a table per section, and one per named choice with its options."""
    parts = [_INTRODUCTION, _overview()]
    for name in RunConfig.model_fields:
        parts.extend(_section(name, annotation_of(RunConfig, name), RunConfig.model_fields[name]))
    return "\n".join(parts)


def _overview() -> str:
    rows = (f"| [`{name}`](#{name}) | {_cell(info.description)} |" for name, info in RunConfig.model_fields.items())
    return "\n".join(["| section | what it says |", "|---|---|", *rows, ""])


def _section(name: str, annotation: Any, info: FieldInfo) -> Iterator[str]:
    yield f"## {name}\n"
    arm = arms_of(annotation)[0]
    if is_section(arm) and not choice_of(arm):
        model: type[Section] = parts_of(arm)[0]
        yield f"{_paragraph(model.__doc__)}\n"
        yield _table(model)
        for field in model.model_fields:
            yield from _inner(f"{name}.{field}", annotation_of(model, field))
        return
    default = "required" if info.is_required() else _default(info)
    yield f"{_paragraph(info.description)} Default: {default}.\n"
    yield from _inner(name, annotation)


def _inner(key: str, annotation: Any) -> Iterator[str]:
    """Tables of what stands below a key: the options of named choices, and mappings."""
    for arm in arms_of(annotation):
        choice = choice_of(arm)
        if choice and not key.endswith("[].block"):
            yield _choices(key, choice.kind)
        elif is_section(arm):
            yield f"### {key}: {{{', '.join(parts_of(arm)[0].model_fields)}}}\n"
            yield f"{_paragraph(parts_of(arm)[0].__doc__)}\n"
            yield _table(parts_of(arm)[0])
        elif item_of(arm) is not None:
            yield from _inner(f"{key}[]", item_of(arm))


def _choices(key: str, kind: str) -> str:
    rows: list[str] = []
    for name in names_of(kind):
        model = options_of(kind, name)
        rows.append(f"| `{name}` |  |  | {_cell(model.__doc__)} |")
        rows.extend(_row(model, field, f"`{name}`: `{field}`") for field in _options(model))
    head = [f"### {key} by name\n", "| name: option | values | default | meaning |", "|---|---|---|---|"]
    return "\n".join([*head, *rows, ""])


def _options(model: type[Named]) -> list[str]:
    return [field for field in model.model_fields if field != "name"]


def _table(model: type[Section]) -> str:
    rows = [_row(model, name, f"`{name}`") for name in model.model_fields]
    return "\n".join(["| key | values | default | meaning |", "|---|---|---|---|", *rows, ""])


def _row(model: type[Section], name: str, label: str) -> str:
    info = model.model_fields[name]
    values = describe(annotation_of(model, name), full=True)
    default = "required" if info.is_required() else _default(info)
    return f"| {label} | {_cell(values)} | {default} | {_cell(info.description)} |"


def _default(info: FieldInfo) -> str:
    value = info.default
    if isinstance(value, Named):
        return f"`{value.name}`"
    if isinstance(value, Section):
        inner = ", ".join(f"{name}: {_plain(part)}" for name, part in value)
        return f"`{{{inner}}}`"
    return f"`{_plain(value)}`"


def _plain(value: Any) -> str:
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    return str(list(value)) if isinstance(value, tuple) else str(value)


def _paragraph(text: str | None) -> str:
    return re.sub(r"\s+", " ", text or "").strip()


def _cell(text: str | None) -> str:
    return _paragraph(text).replace("|", "\\|")


if __name__ == "__main__":
    sys.stdout.write(configuration_markdown())
