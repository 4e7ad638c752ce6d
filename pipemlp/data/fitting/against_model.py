"""Holds the data's shape against the sections `model`, `loss` and `training`."""

from pipemlp.config.root import RunConfig
from pipemlp.data.fitting.preprocessing import Preprocessing
from pipemlp.data.problems import Problems, counted
from pipemlp.planning.layers import embedding_width
from pipemlp.planning.shapes import DataShape


def check_against_model(config: RunConfig, shape: DataShape, learned: Preprocessing) -> None:
    """Widths, loss weights and batch size.

    Raises:
        ConfigError: a width or a number of loss weights differs from what the data have.
        DataError: fewer training rows than one global batch.
    """
    problems = Problems()
    width = shape.num_numeric + sum(embedding_width(num_codes) for num_codes in shape.cardinalities)
    if config.model.input_width not in ("auto", width):
        embedded = f" and {counted(len(shape.cardinalities), 'embedding')}" if shape.cardinalities else ""
        problems.config(
            f"model.input_width: {config.model.input_width}, but {counted(shape.num_numeric, 'numeric column')}"
            f"{embedded} make {width}; use {width} or auto"
        )
    things = {"classification": "classes", "multilabel": "labels", "regression": "outputs"}[shape.task]
    if config.model.output_width not in ("auto", shape.output_width):
        problems.config(
            f"model.output_width: {config.model.output_width}, but the target has {shape.output_width} {things}; "
            f"use {shape.output_width} or auto"
        )
    for option in ("class_weights", "positive_weights"):
        weights = getattr(config.loss, option, None)
        if weights is not None and len(weights) != shape.output_width:
            order = ", ".join(map(str, learned.class_labels or learned.targets))
            problems.config(
                f"loss.{option}: {counted(len(weights), 'weight')} but {shape.output_width} {things}; "
                f"give one for each of {order}"
            )
    num_rows, batch = shape.num_rows[0], config.training.global_batch_size
    if num_rows < batch:
        problems.data(
            f"training.global_batch_size: {batch} rows, but there {'is' if num_rows == 1 else 'are'} only "
            f"{counted(num_rows, 'training row')}; use at most {num_rows}"
        )
    problems.raise_if_any()
