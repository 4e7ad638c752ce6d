"""Fits the preprocessing on the training rows, in one pass over all rows that also checks the others."""

from pipemlp.config.root import RunConfig
from pipemlp.data.fitting.columns import ColumnChoice
from pipemlp.data.fitting.moments import Moments
from pipemlp.data.fitting.preprocessing import Preprocessing
from pipemlp.data.fitting.seen_values import Place, SeenValues
from pipemlp.data.problems import Problems, listing
from pipemlp.data.shards.cache import Progress
from pipemlp.data.splits import Splits
from pipemlp.data.table import Table, Value, stacked
from pipemlp.planning.shapes import Task


def fit(
    config: RunConfig,
    choice: ColumnChoice,
    task: Task,
    splits: Splits,
    problems: Problems,
    notes: list[str],
    progress: Progress | None = None,
) -> Preprocessing:
    """Means, standard deviations, vocabularies and class labels of the training rows.

    Categories and labels that only other rows have go to `problems`, as the policy says.
    """
    trained_on = splits.parts[0].table
    scaled_targets = choice.targets if task == "regression" else ()
    listed = choice.categorical + (choice.targets if task == "classification" else ())
    seen = {name: SeenValues(name, trained_on.kinds[name] == "category") for name in listed}
    inputs, targets = Moments(len(choice.numeric)), Moments(len(scaled_targets))
    names = tuple(dict.fromkeys(choice.numeric + scaled_targets + listed))
    done = 0
    for table, rows, is_training in splits.blocks():
        columns = table.read(rows, names)
        inputs.add(stacked(columns, choice.numeric, len(rows))[is_training])
        targets.add(stacked(columns, scaled_targets, len(rows))[is_training])
        for name in listed:
            seen[name].add(table, rows, columns[name], is_training)
        done += len(rows)
        if progress:
            progress("fitting statistics", min(1.0, done / sum(part.num_kept for part in splits.parts)))
    if trained_on.max_fit_rows is not None and splits.num_rows("train") > trained_on.max_fit_rows:
        notes.append(f"data: statistics are fitted on the first {trained_on.max_fit_rows:,} training rows")
    _note_empty(choice.numeric, inputs, problems)
    for name in choice.categorical:
        _check_unseen(seen[name], config.data.unseen, problems)
    labels: tuple[Value, ...] = ()
    if task == "classification":
        labels = _class_labels(config, seen[choice.targets[0]], trained_on, problems)
    return Preprocessing(
        task=task,
        numeric=choice.numeric,
        means=inputs.means,
        stds=inputs.stds,
        categorical=choice.categorical,
        vocabularies=tuple(seen[name].values for name in choice.categorical),
        targets=choice.targets,
        target_means=targets.means,
        target_stds=targets.stds,
        class_labels=labels,
        missing=config.data.missing,
        unseen=config.data.unseen,
        is_autoencoder=choice.is_autoencoder,
    )


def _note_empty(names: tuple[str, ...], moments: Moments, problems: Problems) -> None:
    for name, count in zip(names, moments.num_values, strict=True):
        if count == 0:
            problems.data(f"data.numeric: column {name!r} has no value in any training row; leave it out")


def _check_unseen(seen: SeenValues, policy: str, problems: Problems) -> None:
    if policy == "error" and seen.unseen:
        value, place = next(iter(seen.unseen.items()))
        problems.data(
            f"data.unseen: column {seen.name!r}: the category {value!r} at {place} is in none of the training rows "
            f"({len(seen.unseen):,} such categories); set data.unseen to unknown"
        )


def _class_labels(config: RunConfig, seen: SeenValues, table: Table, problems: Problems) -> tuple[Value, ...]:
    width = config.model.output_width
    if table.class_labels is not None and (seen.name,) == table.default_target:
        _check_width(width, table.class_labels, problems)
        return table.class_labels
    labels = seen.values
    if isinstance(width, int) and labels and all(isinstance(label, int) for label in labels):
        return _integer_labels(width, seen, problems)
    _check_width(width, labels, problems)
    _check_labels(seen, labels, problems)
    return labels


def _integer_labels(width: int, seen: SeenValues, problems: Problems) -> tuple[Value, ...]:
    """Classes 0..width-1. A few rows outside are damaged data, many are a width that does not fit."""
    classes: tuple[Value, ...] = tuple(range(width))
    everywhere: dict[Value, Place] = {**seen.held_out, **seen.first}
    outside = [value for value in everywhere if value not in classes]
    inside = [count for value, count in seen.counts.items() if value in classes]
    usual = sum(inside) / max(len(inside), 1)
    if any(3 * seen.counts.get(value, 0) >= usual for value in outside):
        _check_width(width, seen.values, problems)
        _check_labels(seen, seen.values, problems)
        return seen.values
    for value in outside:
        allowed = f"classes are 0..{width - 1} (model.output_width: {width})"
        problems.data(f"data.target: label {value} at {everywhere[value]}; {allowed}")
    return classes


def _check_width(width: object, labels: tuple[Value, ...], problems: Problems) -> None:
    if len(labels) < 2:
        problems.data(f"data.target: the training rows have {len(labels)} class ({listing(labels)}); at least 2 needed")
    if isinstance(width, int) and width != len(labels):
        problems.config(
            f"model.output_width: {width}, but the target has {len(labels)} classes; use {len(labels)} or auto"
        )


def _check_labels(seen: SeenValues, labels: tuple[Value, ...], problems: Problems) -> None:
    for value, place in list(seen.unseen.items())[:3]:
        problems.data(
            f"data.target: label {value!r} at {place} is not among the classes of the training rows ({listing(labels)})"
        )
