"""What a plan or a profile starts from: configuration, layers, the shape of the data; no row is read if possible."""

from dataclasses import dataclass

from pipemlp.config.parallel import ParallelConfig
from pipemlp.config.root import RunConfig
from pipemlp.data import prepare
from pipemlp.launching.devices import num_cores, num_gpus
from pipemlp.planning.candidates import grids
from pipemlp.planning.layers import LayerDescription, describe_layers
from pipemlp.planning.resolve import resolve
from pipemlp.planning.shapes import DataShape, task_of_loss
from pipemlp.planning.workload import workload_of
from pipemlp.training.cost_sources import on_gpu

ASSUMED_ROWS = 10**6
"""Of a training split that nobody has looked at; a plan does not depend on it."""

MOST_RANKS_ON_CPU = 8
"""More processes on one machine only wait for memory."""


@dataclass(frozen=True)
class PlanningInputs:
    """What is planned, or profiled.

    Args:
        config: without `auto`.
        layers: of its model.
        shape: of its data.
        num_ranks: that it runs on; with `parallel: auto` as many as this machine has devices that can be used.
    """

    config: RunConfig
    layers: tuple[LayerDescription, ...]
    shape: DataShape
    num_ranks: int


def planning_inputs(config: RunConfig) -> PlanningInputs:
    """Resolve a configuration for planning.

    Where `model.input_width` and `model.output_width` are numbers, the data need not exist. Otherwise they are opened,
    which looks at rows only if no earlier run or `validate` has. What the configuration says of `parallel` is kept, but
    not checked: a plan replaces it.

    Raises:
        ConfigError, DataError: with all problems.
    """
    is_automatic = config.parallel == "auto"
    if is_automatic:
        config = config.model_copy(update={"parallel": ParallelConfig()})
    shape = _given_shape(config) or prepare(config, config.base_dir).shape
    resolved, _ = resolve(config, shape)
    layers, parallel = describe_layers(resolved.model, shape), resolved.chosen_parallel
    num_ranks = parallel.stages * parallel.data_parallel
    if is_automatic:
        workload = workload_of(resolved, layers)
        num_ranks = next(number for number in range(num_devices(config), 0, -1) if grids(workload, number))
    return PlanningInputs(resolved, layers, shape, num_ranks)


def num_devices(config: RunConfig) -> int:
    """GPUs of this machine, or its cores, up to a few."""
    return max(1, num_gpus() if on_gpu(config) else min(num_cores(), MOST_RANKS_ON_CPU))


def _given_shape(config: RunConfig) -> DataShape | None:
    model = config.model
    if model.input_width == "auto" or model.output_width == "auto":
        return None
    task = task_of_loss(config.loss) or "regression"
    return DataShape(model.input_width, (), model.output_width, task, (ASSUMED_ROWS, 0, 0))
