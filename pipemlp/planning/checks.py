"""Rules that span several keys, each with its arithmetic and the nearest valid values."""

from collections.abc import Iterator, Sequence
from difflib import get_close_matches

from pipemlp.config.data import SplitPaths
from pipemlp.config.root import RunConfig
from pipemlp.planning.budget import budget_of
from pipemlp.planning.exchange_rules import exchange_notes, exchange_problems
from pipemlp.planning.layers import LayerDescription
from pipemlp.planning.metric_names import metrics_for
from pipemlp.planning.partition import boundaries_for, check_sizes
from pipemlp.planning.shapes import DataShape
from pipemlp.schedule.methods import METHODS
from pipemlp.schedule.schedule import Schedule

Problem = tuple[str, str]
"""A key and what is wrong with it."""


def batch_problems(config: RunConfig) -> Iterator[Problem]:
    """Divisibility of the global batch; needs no data."""
    parallel, batch = config.chosen_parallel, config.training.global_batch_size
    micro_batches = 1 if parallel.micro_batches == "auto" else parallel.micro_batches
    unit = parallel.data_parallel * micro_batches
    if batch % unit == 0:
        return
    terms = f"data_parallel {parallel.data_parallel}"
    if parallel.micro_batches != "auto":
        terms += f" x micro_batches {micro_batches}"
    below, above = batch // unit * unit, (batch // unit + 1) * unit
    nearest = f"{below} or {above}" if below else f"{above}"
    yield (
        "training.global_batch_size",
        f"{batch} is not divisible by {terms} = {unit}; nearest valid values: {nearest}",
    )


def plan_problems(
    config: RunConfig, layers: Sequence[LayerDescription], shape: DataShape, own: Schedule | None = None
) -> Iterator[Problem]:
    """Everything that depends on the layers, the data's shape, and the user's own schedule."""
    sizes = list(_schedule_problems(config, own))
    yield from sizes
    if not sizes:
        yield from _cut_problems(config, layers)
    yield from _metric_problems(config, shape)
    yield from exchange_problems(config, layers)


def plan_notes(config: RunConfig, shape: DataShape) -> Iterator[str]:
    """What works, but is probably not meant."""
    for index, split in enumerate(("validation", "test"), start=1):
        share = getattr(config.data.split, split)
        if share > 0 and shape.num_rows[index] == 0 and not isinstance(config.data.path, SplitPaths):
            yield (
                f"data.split.{split}: {share:g} of {sum(shape.num_rows):,} rows is less than one row, so there are no "
                f"{split} rows; use at least {1 / sum(shape.num_rows):.2g}"
            )
    budget, warmup = budget_of(config, shape.num_rows[0]), config.lr_schedule.warmup_steps
    if warmup >= budget.num_steps:
        yield (
            f"lr_schedule.warmup_steps: {warmup}, but the run has {budget.num_steps} steps "
            f"({budget.steps_per_epoch} per epoch): the learning rate never reaches its full height"
        )
    yield from exchange_notes(config)


def _schedule_problems(config: RunConfig, own: Schedule | None) -> Iterator[Problem]:
    parallel = config.chosen_parallel
    sizes = parallel.stages, int(parallel.micro_batches), int(parallel.virtual_stages)
    if own is None:
        try:
            METHODS[parallel.schedule].check(sizes[2])
        except ValueError as error:
            yield "parallel.virtual_stages", str(error)
        return
    found = own.num_stages, own.num_micro_batches, own.num_virtual_stages
    for key, there, here in zip(("stages", "micro_batches", "virtual_stages"), found, sizes, strict=True):
        if there != here:
            yield f"parallel.{key}", f"{here}, but the schedule in {parallel.schedule} is for {there}"
    yield from batch_problems(config)  # the schedule may have said how many micro-batches there are


def _cut_problems(config: RunConfig, layers: Sequence[LayerDescription]) -> Iterator[Problem]:
    parallel = config.chosen_parallel
    num_stages, num_virtual_stages = parallel.stages, int(parallel.virtual_stages)
    try:
        if parallel.partition == "balanced":
            check_sizes(layers, num_stages, num_virtual_stages)
        else:
            boundaries_for(parallel.partition, layers, num_stages, num_virtual_stages)
    except ValueError as error:
        most = sum(1 for layer in layers if layer.parameters)
        fewest = METHODS[parallel.schedule].default_virtual_stages if parallel.schedule in METHODS else 1
        if num_stages * num_virtual_stages <= most:
            yield ("parallel.stages" if isinstance(parallel.partition, str) else "parallel.partition"), str(error)
        elif num_virtual_stages > fewest and num_stages * fewest <= most:
            too_many, _, _ = str(error).rpartition(";")
            yield "parallel.virtual_stages", f"{too_many}; use at most {most // num_stages}"
        else:
            yield "parallel.stages", str(error)
    recompute = parallel.recompute
    if isinstance(recompute, int) and recompute > len(layers):
        yield "parallel.recompute", f"every {recompute} layers, but the model has {len(layers)}"


def _metric_problems(config: RunConfig, shape: DataShape) -> Iterator[Problem]:
    known = metrics_for(shape)
    wanted = [("evaluation.metrics", name) for name in config.evaluation.metrics if config.evaluation.metrics != "auto"]
    judged = []
    if config.checkpoint.best is not None:
        judged.append(("checkpoint.best", config.checkpoint.best))
    if config.training.early_stopping is not None:
        judged.append(("training.early_stopping.metric", config.training.early_stopping.metric))
    for key, name in wanted + judged:
        allowed = (*known, "loss") if (key, name) in judged else known
        if name not in allowed:
            close = get_close_matches(name, allowed, n=1)
            hint = f"; did you mean {close[0]}?" if close else ""
            yield key, f"no metric {name!r} for {shape.task}; choose from {', '.join(allowed)}{hint}"
        elif (key, name) in judged and name != "loss" and name not in config.evaluation.metrics:
            yield key, f"{name} is not among evaluation.metrics ({', '.join(config.evaluation.metrics)}); add it there"
        if (key, name) in judged and shape.num_rows[1] == 0:
            yield key, "needs validation rows, but there are none; set data.split.validation or data.path.validation"
