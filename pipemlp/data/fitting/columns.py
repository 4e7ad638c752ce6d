"""Decides what each column is for: input number, input category, target, weight."""

from dataclasses import dataclass

from pipemlp.config.data import DataConfig
from pipemlp.data.problems import Problems, counted, listing, suggestion
from pipemlp.data.table import Table

TARGET_NAMES = ("target", "label", "y", "class")


@dataclass(frozen=True)
class ColumnChoice:
    """Columns by use. An autoencoder has no target columns; its target are the numeric inputs."""

    numeric: tuple[str, ...]
    categorical: tuple[str, ...]
    targets: tuple[str, ...]
    weight: str | None
    is_autoencoder: bool

    @property
    def used(self) -> tuple[str, ...]:
        """All columns that are read, each once."""
        weight = () if self.weight is None else (self.weight,)
        return tuple(dict.fromkeys(self.numeric + self.categorical + self.targets + weight))


def choose_columns(data: DataConfig, table: Table, problems: Problems, notes: list[str]) -> ColumnChoice:
    """Columns as configured, and inferred where `auto`; notes say what was inferred.

    Number columns become numeric inputs and text columns categorical ones. The target is the source's own, else
    `target`, `label`, `y` or `class`, else the last column. Contradictions and unknown names go to `problems`.
    """
    is_autoencoder = data.target == "inputs"
    weight = None
    if data.weight is not None:
        named = _named(table, (data.weight,), "data.weight", problems)
        weight = named[0] if named else None
    targets = () if is_autoencoder else _targets(data, table, weight, problems, notes)
    taken = {*targets, weight}
    listed = {
        "numeric": None if data.numeric == "auto" else _named(table, data.numeric, "data.numeric", problems),
        "categorical": None
        if data.categorical == "auto"
        else _named(table, data.categorical, "data.categorical", problems),
    }
    _check_overlap(listed, targets, weight, problems)
    for names in listed.values():
        taken.update(names or ())
    numeric, categorical = listed["numeric"], listed["categorical"]
    if numeric is None:
        numeric = tuple(name for name, kind in table.kinds.items() if kind == "number" and name not in taken)
        notes.append(f"data.numeric: {counted(len(numeric), 'column')} of numbers: {listing(numeric, 5)}")
    if categorical is None:
        categorical = tuple(name for name, kind in table.kinds.items() if kind == "category" and name not in taken)
        if categorical:
            notes.append(f"data.categorical: {counted(len(categorical), 'column')} of text: {listing(categorical, 5)}")
    notes.extend(f"data: column {name!r} is left out: {reason}" for name, reason in table.dropped.items())
    if is_autoencoder and not numeric:
        problems.config("data.target: inputs: an autoencoder needs numeric columns, but there is none")
    elif not numeric and not categorical:
        problems.config(
            f"data.numeric: no input column is left beside the target {listing(targets)}; "
            f"columns: {listing(table.kinds)}"
        )
    return ColumnChoice(numeric, categorical, targets, weight, is_autoencoder)


def _targets(
    data: DataConfig, table: Table, weight: str | None, problems: Problems, notes: list[str]
) -> tuple[str, ...]:
    target = data.target
    names = list(table.kinds)
    if isinstance(target, int):
        if -len(names) <= target < len(names):
            return (names[target],)
        problems.data(f"data.target: {target}: there are {len(names)} columns; use {-len(names)}..{len(names) - 1}")
        return ()
    if target != "auto":
        return _named(table, (target,) if isinstance(target, str) else target, "data.target", problems)
    reason = "the last one"
    if table.default_target is not None:
        return table.default_target
    for candidate in TARGET_NAMES:
        if candidate in table.kinds or candidate in table.groups:
            found, reason = table.groups.get(candidate, (candidate,)), "by its name"
            break
    else:
        found = tuple([name for name in names if name != weight][-1:])
    notes.append(f"data.target: {'column' if len(found) == 1 else 'columns'} {listing(map(repr, found))} ({reason})")
    return found


def _named(table: Table, names: tuple[str, ...], key: str, problems: Problems) -> tuple[str, ...]:
    """The columns that a list names; a two-dimensional array's name stands for its columns."""
    found: list[str] = []
    for name in names:
        if name in table.kinds:
            found.append(name)
        elif name in table.groups:
            found.extend(table.groups[name])
        elif name in table.dropped:
            problems.data(f"{key}: column {name!r} cannot be used: {table.dropped[name]}")
        else:
            near = suggestion(name, table.kinds)
            problems.data(f"{key}: no column {name!r}{near}; columns: {listing(table.kinds)}")
    twice = sorted({name for name in found if found.count(name) > 1})
    if twice:
        problems.config(f"{key}: {listing(twice)} listed twice; list each column once")
    if not names and key == "data.target":
        problems.config(f"{key}: an empty list; name at least one column")
    return tuple(found)


def _check_overlap(
    listed: dict[str, tuple[str, ...] | None], targets: tuple[str, ...], weight: str | None, problems: Problems
) -> None:
    both = [name for name in listed["numeric"] or () if name in (listed["categorical"] or ())]
    if both:
        problems.config(f"data.categorical: {listing(both)} also listed in data.numeric; keep a column in one of them")
    for key, names in listed.items():
        clash = [name for name in names or () if name in targets]
        if clash:
            problems.config(f"data.{key}: {listing(clash)} is the target, so it cannot be an input; remove it")
        if weight is not None and weight in (names or ()):
            problems.config(f"data.{key}: {weight} is the weight (data.weight), so it cannot be an input; remove it")
    if weight is not None and weight in targets:
        problems.config(f"data.weight: {weight} is the target too; name another column")
