"""Decides the task from the loss, or from the target's values where the loss is `auto`."""

from typing import Any

import numpy as np

from pipemlp.config.section import Named
from pipemlp.data.fitting.columns import ColumnChoice
from pipemlp.data.fitting.facts import Facts
from pipemlp.data.problems import Problems, counted, listing
from pipemlp.data.table import Table
from pipemlp.planning.shapes import Task, task_of_loss

TRUE_TEXTS = {"true": 1, "false": 0, "1": 1, "0": 0}
_ROWS_PER_CLASS = 3


def infer_task(
    loss: Any, choice: ColumnChoice, table: Table, facts: dict[str, Facts], problems: Problems, notes: list[str]
) -> Task:
    """The task of a run.

    A named loss decides. With `auto`, text is classified. One column of whole numbers is classified if it has at
    most 20 distinct values, which come up 3 times each on average; several columns of 0 and 1 are labels; all
    else is a regression.
    """
    task = task_of_loss(loss)
    if task is not None:
        check_targets(loss, task, choice, table, facts, problems)
        return task
    if choice.is_autoencoder:
        return "regression"
    if len(choice.targets) == 1:
        task = _one_column(choice.targets[0], table, facts)
    elif all(_is_binary(target, table, facts) for target in choice.targets):
        task = "multilabel"
    else:
        task = "regression"
    described = {
        "classification": "one column of classes -> classification, cross_entropy",
        "multilabel": f"{len(choice.targets)} columns of 0 and 1 -> multilabel, binary_cross_entropy",
        "regression": f"{counted(len(choice.targets), 'column')} of numbers -> regression, mse",
    }
    notes.append(f"loss: {described[task]}")
    check_targets(loss, task, choice, table, facts, problems)
    return task


def _one_column(target: str, table: Table, facts: dict[str, Facts]) -> Task:
    if table.class_labels is not None and (target,) == table.default_target:
        return "classification"
    if table.kinds[target] == "category" and not mostly_numbers(table, target):
        return "classification"
    distinct = facts[target].distinct
    if table.kinds[target] == "number" and facts[target].is_whole and distinct:
        present = facts[target].num_rows - facts[target].num_missing
        if len(distinct) * _ROWS_PER_CLASS <= present:
            return "classification"
    return "regression"


def mostly_numbers(table: Table, name: str) -> bool:
    """Whether more than 90 % of a category column's values spell numbers: then the rest is likely a mistake."""
    num_numbers, num_texts = table.mixed.get(name, (0, 1))
    return num_numbers > 0.9 * (num_numbers + num_texts)


def _is_binary(target: str, table: Table, facts: dict[str, Facts]) -> bool:
    if table.kinds[target] == "category":
        return all(text.lower() in TRUE_TEXTS for text in table.texts(target))
    distinct = facts[target].distinct
    return distinct is not None and distinct <= {0, 1} and facts[target].num_infinite == 0


def check_targets(
    loss: Any, task: Task, choice: ColumnChoice, table: Table, facts: dict[str, Facts], problems: Problems
) -> None:
    """The values of the target in a table against the task; what does not fit goes to `problems`."""
    name = loss.name if isinstance(loss, Named) else "auto"
    if choice.is_autoencoder:
        if task != "regression":
            problems.config(f"loss: {name}: an autoencoder (data.target: inputs) learns numbers; use mse, mae or huber")
        return
    if task == "classification" and len(choice.targets) > 1:
        problems.config(
            f"loss: {name}: one column of classes is expected, but data.target names {len(choice.targets)}: "
            f"{listing(choice.targets)}; use binary_cross_entropy for several labels, or mse for several numbers"
        )
        return
    for target in choice.targets:
        is_text = table.kinds[target] == "category"
        if task == "classification" and not is_text and not facts[target].is_whole:
            row = table.first_row(target, lambda values: np.isfinite(values) & (values != np.floor(values)))
            value = table.read_value(row, target)
            problems.config(
                f"loss: {name}: classes are whole numbers or text, but column {target!r} has {value:g} at "
                f"{table.place(row)}; use mse, mae or huber for numbers"
            )
        if task == "multilabel" and not _is_binary(target, table, facts):
            problems.config(
                f"loss: {name}: column {target!r} has values other than 0 and 1 (or true and false)"
                f"{_example(table, target)}; use cross_entropy for one column of classes"
            )
        if task == "regression" and is_text and not mostly_numbers(table, target):
            problems.config(
                f"loss: {name}: numbers are expected, but column {target!r} holds text such as "
                f"{table.texts(target)[0]!r}; use cross_entropy for classes"
            )


def _example(table: Table, target: str) -> str:
    if table.kinds[target] == "category":
        odd = next(text for text in table.texts(target) if text.lower() not in TRUE_TEXTS)
        return f", such as {odd!r}"
    row = table.first_row(target, lambda values: (values != 0) & (values != 1) & (values == values))
    return f", such as {table.read_value(row, target):g} at {table.place(row)}"
