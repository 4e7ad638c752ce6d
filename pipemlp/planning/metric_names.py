"""The metrics by name: for which task each is meant, and whether larger is better."""

from dataclasses import dataclass

from pipemlp.planning.shapes import DataShape, Task


@dataclass(frozen=True)
class MetricName:
    """What planning knows of a metric; the computation lives with the training."""

    tasks: tuple[Task, ...]
    larger_is_better: bool
    num_classes_above: int = 0
    """Chosen by `auto` only with more classes than this."""
    automatic: bool = True
    """Whether `auto` chooses it at all."""


_METRICS: dict[str, MetricName] = {
    "accuracy": MetricName(("classification", "multilabel"), True),
    "top_3_accuracy": MetricName(("classification",), True, num_classes_above=3, automatic=False),
    "top_5_accuracy": MetricName(("classification",), True, num_classes_above=5),
    "macro_f1": MetricName(("classification", "multilabel"), True),
    "log_loss": MetricName(("classification", "multilabel"), False),
    "rmse": MetricName(("regression",), False),
    "mae": MetricName(("regression",), False),
    "r2": MetricName(("regression",), True),
}


def register_metric_name(name: str, metric: MetricName) -> None:
    """Make a plug-in's metric known to configurations.

    Raises:
        ValueError: if the name is taken.
    """
    if name == "loss" or name in _METRICS:
        raise ValueError(f"the metric name {name!r} is already taken; choose another")
    _METRICS[name] = metric


def metrics_for(shape: DataShape) -> tuple[str, ...]:
    """All metrics that suit the task and the number of outputs."""
    return tuple(
        name
        for name, metric in _METRICS.items()
        if shape.task in metric.tasks and shape.output_width > metric.num_classes_above
    )


def automatic_metrics(shape: DataShape) -> tuple[str, ...]:
    """What `evaluation.metrics: auto` stands for."""
    return tuple(name for name in metrics_for(shape) if _METRICS[name].automatic)


def larger_is_better(name: str) -> bool:
    """The direction of improvement; `loss` falls."""
    return name != "loss" and _METRICS[name].larger_is_better
