"""Holds the values of every used column against what it is used for."""

import numpy as np

from pipemlp.config.data import DataConfig
from pipemlp.data.files.arrow_values import number_of_text
from pipemlp.data.fitting.columns import ColumnChoice
from pipemlp.data.fitting.facts import Facts
from pipemlp.data.fitting.task import mostly_numbers
from pipemlp.data.problems import Problems, counted
from pipemlp.data.table import Table
from pipemlp.planning.shapes import Task


def settle_kinds(
    table: Table, choice: ColumnChoice, data: DataConfig, loss_task: Task | None, trained_on: Table, problems: Problems
) -> set[str]:
    """Read text as numbers where numbers are wanted, and report text that spells none.

    Wanted are numbers for numeric inputs, the weight, what the training rows have as numbers, and a
    target whose column is mostly numbers unless the loss takes classes. Returns the columns reported.
    """
    reported = set()
    wanted = {*choice.numeric} | ({choice.weight} if choice.weight else set())
    relabel = "set loss to cross_entropy if these are classes"
    for name in choice.used:
        if table.kinds[name] != "category":
            continue
        is_number = name in wanted or trained_on.kinds[name] == "number"
        is_number |= name in choice.targets and loss_task in (None, "regression") and mostly_numbers(table, name)
        doubtful = name in choice.categorical and data.categorical == "auto" and mostly_numbers(table, name)
        if (is_number or doubtful) and not _all_spell_numbers(
            table, name, relabel if name in choice.targets else "list the column in data.categorical", problems
        ):
            reported.add(name)
        if is_number:
            table.treat_as_numbers(name)
    return reported


def _all_spell_numbers(table: Table, name: str, remedy: str, problems: Problems) -> bool:
    texts = table.read_texts(name)
    odd = np.array([code for code, text in enumerate(texts) if number_of_text(text) is None], dtype=np.int64)
    if odd.size == 0:
        return True
    row = table.first_row(name, lambda codes: np.isin(codes, odd))
    text = texts[int(table.read(np.array([row]), (name,))[name][0])]
    num_numbers, num_texts = table.mixed.get(name, (0, 0))
    among = f" ({counted(num_texts, 'such value')} beside {num_numbers:,} numbers)" if num_texts else ""
    place = f"{table.place(row)}, column {name!r}"
    problems.data(f"data.path: {place}: {text!r} is not a number{among}; correct it, or {remedy}")
    return False


def check_values(
    table: Table,
    facts: dict[str, Facts],
    choice: ColumnChoice,
    data: DataConfig,
    reported: set[str],
    problems: Problems,
) -> None:
    """Missing and infinite values, categories that are no whole numbers, and weights; not of `reported` columns."""
    for name in choice.used:
        fact = facts[name]
        if fact.num_infinite:
            row = table.first_row(name, np.isinf)
            problems.data(
                f"data.path: {table.place(row)}, column {name!r}: {table.read_value(row, name)} is not finite "
                f"({counted(fact.num_infinite, 'such value')}); correct it or leave it empty"
            )
        if fact.num_missing and data.missing != "drop" and name not in reported:
            _check_missing(table, name, fact, choice, data, problems)
        if name in choice.categorical and table.kinds[name] == "number" and not fact.is_whole:
            row = table.first_row(name, lambda values: np.isfinite(values) & (values != np.floor(values)))
            problems.data(
                f"data.categorical: column {name!r} has {table.read_value(row, name):g} at {table.place(row)}; "
                "a category is text or a whole number; list the column in data.numeric"
            )
    if choice.weight is not None:
        _check_weight(table, choice.weight, facts[choice.weight], problems)


def _check_missing(
    table: Table, name: str, fact: Facts, choice: ColumnChoice, data: DataConfig, problems: Problems
) -> None:
    is_input = name in choice.numeric or name in choice.categorical
    if is_input and data.missing == "mean":
        return
    row = table.first_row(name, (lambda codes: codes < 0) if table.kinds[name] == "category" else np.isnan)
    key = "data.missing" if is_input else "data.weight" if name == choice.weight else "data.target"
    remedy = "set data.missing to drop or mean" if is_input else "fill them in, or set data.missing to drop"
    values = "1 missing value, at" if fact.num_missing == 1 else f"{fact.num_missing:,} missing values, first at"
    problems.data(f"{key}: column {name!r} has {values} {table.place(row)}; {remedy}")


def _check_weight(table: Table, name: str, fact: Facts, problems: Problems) -> None:
    if fact.num_negative:
        row = table.first_row(name, lambda values: values < 0)
        value = table.read_value(row, name)
        problems.data(f"data.weight: column {name!r} is {value:g} at {table.place(row)}; weights must be 0 or more")
    elif fact.largest <= 0 and fact.num_rows > fact.num_missing:
        problems.data(f"data.weight: column {name!r} is 0 in every row; at least one weight must be above 0")


def rows_without_gaps(table: Table, facts: dict[str, Facts], choice: ColumnChoice) -> np.ndarray | None:
    """The rows in which no used column is missing, ascending; None if that is all of them."""
    names = tuple(name for name in choice.used if facts[name].num_missing)
    if not names:
        return None
    kept = []
    for rows, columns in table.blocks(names):
        complete = np.ones(len(rows), dtype=bool)
        for name, values in columns.items():
            complete &= values >= 0 if table.kinds[name] == "category" else ~np.isnan(values)
        kept.append(rows[complete].astype(np.uint32 if table.num_rows < 1 << 32 else np.int64))
    return np.concatenate(kept)
