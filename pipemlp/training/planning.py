"""What a plan or a profile starts from: configuration, layers, the shape of the data; no row is read if possible."""

from dataclasses import dataclass

from pipemlp.config.parallel import ParallelConfig
from pipemlp.config.root import RunConfig
from pipemlp.data import prepare
from pipemlp.planning.layers import LayerDescription, describe_layers
from pipemlp.planning.resolve import resolve
from pipemlp.planning.shapes import DataShape, task_of_loss

ASSUMED_ROWS = 10**6
"""Of a training split that nobody has looked at; a plan does not depend on it."""


@dataclass(frozen=True)
class PlanningInputs:
    """A configuration without `auto`, the layers of its model, the shape of its data."""

    config: RunConfig
    layers: tuple[LayerDescription, ...]
    shape: DataShape


def planning_inputs(config: RunConfig) -> PlanningInputs:
    """Resolve a configuration for planning.

    Where `model.input_width` and `model.output_width` are numbers, the data need not exist. Otherwise they are opened,
    which looks at rows only if no earlier run or `validate` has. What the configuration says of `parallel` is kept, but
    not checked: a plan replaces it.

    Raises:
        ConfigError, DataError: with all problems.
    """
    if config.parallel == "auto":
        config = config.model_copy(update={"parallel": ParallelConfig()})
    shape = _given_shape(config) or prepare(config, config.base_dir).shape
    resolved, _ = resolve(config, shape)
    return PlanningInputs(resolved, describe_layers(resolved.model, shape), shape)


def _given_shape(config: RunConfig) -> DataShape | None:
    model = config.model
    if model.input_width == "auto" or model.output_width == "auto":
        return None
    task = task_of_loss(config.loss) or "regression"
    return DataShape(model.input_width, (), model.output_width, task, (ASSUMED_ROWS, 0, 0))
