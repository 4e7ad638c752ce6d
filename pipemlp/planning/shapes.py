"""What the layers need to know of the data: how many values go in, how many come out, for which task."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, cast

from pipemlp.config.registry import task_of_loss_name
from pipemlp.config.section import Named

Task = Literal["regression", "classification", "multilabel"]

_TASKS: dict[str, Task] = {
    "mse": "regression",
    "mae": "regression",
    "huber": "regression",
    "cross_entropy": "classification",
    "binary_cross_entropy": "multilabel",
}


@dataclass(frozen=True)
class DataShape:
    """The data as the model sees it.

    Args:
        num_numeric: numeric input columns.
        cardinalities: for each categorical column, the number of its codes; code 0 stands for unknown.
        output_width: values per row that leave the model: targets, labels or classes.
        task: regression (one float per output), classification (one class index), multilabel
            (one 0/1 per output).
        num_rows: rows of (train, validation, test).
    """

    num_numeric: int
    cardinalities: tuple[int, ...]
    output_width: int
    task: Task
    num_rows: tuple[int, int, int]


def shape_from_json(values: Mapping[str, Any]) -> DataShape:
    """The inverse of `dataclasses.asdict` after a way through JSON, where tuples become lists.

    Raises:
        KeyError, TypeError: if the values are not those of a shape.
    """
    return DataShape(**{**values, **{key: tuple(values[key]) for key in ("cardinalities", "num_rows")}})


def task_of_loss(loss: Any) -> Task | None:
    """The task that a loss stands for; None for `auto`."""
    name = loss.name if isinstance(loss, Named) else "auto"
    return _TASKS.get(name) or cast("Task | None", task_of_loss_name(name))
