"""Use a finished run in one process: evaluate a split, or predict for the rows of a file."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from pipemlp.checkpoint.trained_model import TrainedModel, load_trained_model
from pipemlp.config.data import Csv
from pipemlp.config.errors import ConfigError, DataError
from pipemlp.data import Preprocessing, RowWriter, prepare, stream_rows
from pipemlp.model.losses import build_loss
from pipemlp.training.metrics import SplitMetrics
from pipemlp.training.run import Run

BATCH_ROWS = 4096
"""Rows that pass through the model at once."""

Note = Callable[[str], None]


def evaluate_run(run: Run, split: str, note: Note = lambda text: None) -> dict[str, float]:
    """Loss and metrics of the trained model over a whole split.

    Raises:
        ConfigError: if the run has no such rows.
        DataError: if the data are gone or damaged.
        ModelFileError: if the model is.
    """
    config = run.config
    model, device = _ready(load_trained_model(run.dir))
    data = prepare(config, config.base_dir)
    if data.preprocessing != model.preprocessing:
        note(
            "the data have changed since the run: evaluated with the run's own statistics and labels, "
            "but the split may hold rows that were trained on"
        )
        data = replace(data, preprocessing=model.preprocessing)
    num_rows = data.shape.num_rows[("train", "validation", "test").index(split)]
    if num_rows == 0:
        raise ConfigError(f"--split {split}: the run has no such rows; set data.split.{split} or data.path.{split}")
    metrics = SplitMetrics(config.evaluation.metrics, data.shape, model.preprocessing, device=device)
    loss = build_loss(config.chosen_loss)
    for start in range(0, num_rows, BATCH_ROWS):
        positions = np.arange(start, min(start + BATCH_ROWS, num_rows))
        outputs = _outputs(model, *data.inputs(split, positions), device)
        target, weight = (torch.from_numpy(array).to(device) for array in data.targets(split, positions))
        metrics.update(outputs, target, loss(outputs, target, weight))
    return metrics.compute()


def predict_file(run: Run, source: Path, output: Path) -> int:
    """Write a prediction for every row of `source` (csv, parquet, npy, npz); returns the number of rows.

    Columns of the output: for a regression the target's own columns; for a classification `prediction` (the label)
    and a `probability_LABEL` per class; for several labels each label as 0 or 1 and its `probability_LABEL`.
    An `.npy` output holds the values, or the probabilities, one row per input row. Reads and writes batch by batch.
    The file appears only when it is whole.

    Raises:
        ConfigError: unknown ending, or the output is the input.
        DataError: a row that the model cannot take, named; nothing is written then.
    """
    if source.resolve() == output.resolve():
        raise ConfigError(f"--output {output}: is the input; name another file")
    model, device = _ready(load_trained_model(run.dir))
    learned = model.preprocessing
    numbers_only = output.suffix.lower() == ".npy"
    with RowWriter(output, _columns(learned, numbers_only)) as writer:
        for numeric, categorical in _inputs(run, learned, source):
            writer.write(_predictions(learned, _outputs(model, numeric, categorical, device), numbers_only))
    return writer.num_rows


def _inputs(run: Run, learned: Preprocessing, source: Path) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    origin = run.config.data.source
    first_row = 0
    for columns in stream_rows(source, BATCH_ROWS, origin.delimiter if isinstance(origin, Csv) else ","):
        try:
            yield learned.transform_inputs(columns, first_row)
        except DataError as error:
            raise DataError(f"{source}: {message}" for message in error.messages) from error
        first_row += len(next(iter(columns.values())))


def _ready(model: TrainedModel) -> tuple[TrainedModel, torch.device]:
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    return model.to(device), device


@torch.no_grad()
def _outputs(model: TrainedModel, numeric: np.ndarray, categorical: np.ndarray, device: torch.device) -> torch.Tensor:
    """Outputs for standardised inputs, in standard units."""
    outputs: torch.Tensor = model.layers(torch.from_numpy(numeric).to(device), torch.from_numpy(categorical).to(device))
    return outputs


def _columns(learned: Preprocessing, numbers_only: bool) -> tuple[str, ...]:
    if learned.task == "regression":
        return learned.numeric if learned.is_autoencoder else learned.targets
    names = learned.class_labels if learned.task == "classification" else learned.targets
    probabilities = tuple(f"probability_{name}" for name in names)
    if numbers_only:
        return probabilities
    return (*(("prediction",) if learned.task == "classification" else learned.targets), *probabilities)


def _predictions(learned: Preprocessing, outputs: torch.Tensor, numbers_only: bool) -> dict[str, np.ndarray]:
    """The columns named by `_columns`, for a batch of outputs in standard units."""
    if learned.task == "regression":
        values = learned.restore_targets(outputs.double().cpu().numpy())
        return dict(zip(_columns(learned, numbers_only), values.T, strict=True))
    several = learned.task == "multilabel"
    chances = (outputs.double().sigmoid() if several else outputs.double().softmax(dim=1)).cpu().numpy()
    names = learned.targets if several else learned.class_labels
    columns = {f"probability_{name}": chances[:, index] for index, name in enumerate(names)}
    if several:
        return columns | {name: (chances[:, i] >= 0.5).astype(np.int64) for i, name in enumerate(learned.targets)}
    return columns | {"prediction": learned.restore_targets(chances.argmax(axis=1))}
