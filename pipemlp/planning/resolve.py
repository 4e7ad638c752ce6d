"""Replace every `auto` of a configuration by what it stands for, and say what was decided."""

from pipemlp.config.model import BinaryCrossEntropy, CrossEntropy, Mse
from pipemlp.config.root import RunConfig
from pipemlp.config.section import Named
from pipemlp.planning.layers import input_width
from pipemlp.planning.metric_names import automatic_metrics
from pipemlp.planning.shapes import DataShape, Task
from pipemlp.schedule.methods import METHODS
from pipemlp.schedule.schedule import Schedule

LOSS_OF_TASK: dict[Task, Named] = {
    "regression": Mse(),
    "classification": CrossEntropy(),
    "multilabel": BinaryCrossEntropy(),
}


def resolve(config: RunConfig, shape: DataShape, own: Schedule | None = None) -> tuple[RunConfig, tuple[str, ...]]:
    """The configuration without `auto` in `model`, `loss`, `training`, `parallel` and `evaluation`.

    Args:
        config: as the user wrote it.
        shape: of the data.
        own: the user's schedule, if it comes from a file.

    Returns:
        The resolved configuration and, for the user, what was decided and why.
    """
    notes: list[str] = []
    update: dict[str, object] = {}
    if config.loss == "auto":
        update["loss"] = LOSS_OF_TASK[shape.task]
    update["model"] = config.model.model_copy(
        update={"input_width": input_width(shape), "output_width": shape.output_width}
    )
    if config.training.epochs is None and config.training.steps is None:
        update["training"] = config.training.model_copy(update={"epochs": 10})
        notes.append("training.epochs: 10, as neither epochs nor steps is given")
    evaluation: dict[str, object] = {}
    if config.evaluation.metrics == "auto":
        evaluation["metrics"] = automatic_metrics(shape)
        notes.append(f"evaluation.metrics: {', '.join(automatic_metrics(shape))}")
    if config.evaluation.every_epochs is None and config.evaluation.every_steps is None:
        evaluation["every_epochs"] = 1
    update["evaluation"] = config.evaluation.model_copy(update=evaluation)
    if config.checkpoint.every_epochs is None and config.checkpoint.every_steps is None:
        update["checkpoint"] = config.checkpoint.model_copy(update={"every_epochs": 1})
    update["parallel"] = config.chosen_parallel.model_copy(update=_parallel(config, own, notes))
    return config.model_copy(update=update), tuple(notes)


def _parallel(config: RunConfig, own: Schedule | None, notes: list[str]) -> dict[str, object]:
    parallel = config.chosen_parallel
    update: dict[str, object] = {}
    if parallel.virtual_stages == "auto":
        method = METHODS.get(parallel.schedule)
        update["virtual_stages"] = (
            method.default_virtual_stages if method else own.num_virtual_stages if own is not None else 1
        )
        if update["virtual_stages"] != 1:
            notes.append(f"parallel.virtual_stages: {update['virtual_stages']}, as {parallel.schedule} has")
    if parallel.micro_batches == "auto":
        update["micro_batches"] = (
            own.num_micro_batches
            if own is not None
            else automatic_micro_batches(parallel.stages, config.training.global_batch_size // parallel.data_parallel)
        )
        notes.append(f"parallel.micro_batches: {update['micro_batches']}")
    if config.precision == "bf16" and parallel.zero_stage == 0:
        update["zero_stage"] = 1
        notes.append(
            "parallel.zero_stage: 1, because DeepSpeed accumulates and reduces bf16 gradients in float32 only then"
        )
    elif parallel.zero_stage == 1 and parallel.data_parallel == 1:
        notes.append("parallel.zero_stage: 1 shards nothing with one replica; the numbers are the same as with 0")
    return update


def automatic_micro_batches(num_stages: int, replica_rows: int) -> int:
    """1 for one stage, else the divisor of a replica's rows that is nearest to 4 x stages."""
    if num_stages == 1 or replica_rows < 1:
        return 1
    wanted = 4 * num_stages
    divisors = [n for n in range(1, replica_rows + 1) if replica_rows % n == 0]
    return min(divisors, key=lambda n: (abs(n - wanted), n))
