"""What `validate` says of a prepared run: inferences, the cut, parameters and memory per rank."""

from rich import box
from rich.console import Console
from rich.table import Table

from pipemlp.data.problems import counted
from pipemlp.planning.plan import Plan
from pipemlp.training.preparation import Preparation
from pipemlp.training.sizes import compact_size

MEMORY_HEADS = {
    "parameter": "weights",
    "gradient": "grads",
    "optimizer": "optim.",
    "activation": "activ.",
    "transfer": "transf.",
    "buffer": "buffers",
    "step": "step",
    "margin": "margin",
    "exchange": "exch.",
}
"""The heads of columns, here and in the report of `plan`, by the items of `MemoryEstimate`."""


def as_json(preparation: Preparation) -> dict[str, object]:
    """The report as plain values; sizes in bytes."""
    plan, shape = preparation.plan, preparation.data.shape
    return {
        "valid": True,
        "notes": list(preparation.notes),
        "task": shape.task,
        "rows": dict(zip(("train", "validation", "test"), shape.num_rows, strict=True)),
        "layers": len(preparation.layers),
        "parameters": sum(plan.num_parameters),
        "ranks": plan.num_ranks,
        "steps": preparation.budget.num_steps,
        "boundaries": list(plan.boundaries),
        "schedule": plan.schedule.name,
        "bubble_fraction": plan.bubble_fraction,
        "stages": [
            {
                "stage": stage,
                "layers": plan.layer_ranges(stage),
                "parameters": plan.num_parameters[stage],
                **{f"{item}_bytes": size for item, size in memory.items().items()},
                "total_bytes": memory.total_bytes,
            }
            for stage, memory in enumerate(plan.memory)
        ],
    }


def grid_text(plan: Plan) -> str:
    """`2 stages x 1 replica = 2 processes`."""
    return (
        f"{counted(plan.num_stages, 'stage')} x {counted(plan.num_replicas, 'replica')} = "
        f"{counted(plan.num_ranks, 'process', 'es')}"
    )


def show(preparation: Preparation, console: Console) -> None:
    """The report for people."""
    plan, shape, config = preparation.plan, preparation.data.shape, preparation.config
    for note in preparation.notes:
        console.print(note, markup=False, soft_wrap=True)
    train, validation, test = shape.num_rows
    inputs = f"{shape.num_numeric} numeric and {counted(len(shape.cardinalities), 'categorical input')}"
    console.print(
        f"data: {train:,} training, {validation:,} validation, {test:,} test rows; {inputs}; {shape.task} with "
        f"{counted(shape.output_width, 'output')}",
        soft_wrap=True,
    )
    console.print(
        f"run: {preparation.budget.num_steps:,} steps of {config.training.global_batch_size} rows, "
        f"{grid_text(plan)}, {counted(plan.num_micro_batches, 'micro-batch', 'es')} of "
        f"{counted(plan.micro_batch_rows, 'row')}; {plan.schedule.name}, bubble {plan.bubble_fraction:.1%}",
        soft_wrap=True,
    )
    if plan.num_micro_batches < plan.num_stages:
        console.print(
            f"warning: parallel.micro_batches: {plan.num_micro_batches} micro-batches keep {plan.num_stages} stages "
            f"idle for {plan.bubble_fraction:.0%} of the time; about {4 * plan.num_stages} would be better",
            soft_wrap=True,
        )
    console.print(_table(preparation))
    console.print("valid", style="green")


def _table(preparation: Preparation) -> Table:
    plan = preparation.plan
    table = Table(
        box=box.SIMPLE_HEAD,
        padding=0,
        title=f"{len(preparation.layers)} layers, {sum(plan.num_parameters):,} parameters; memory per rank (G = GiB)",
        title_justify="left",
    )
    shown = [item for item in MEMORY_HEADS if any(memory.items()[item] for memory in plan.memory)]
    for name in ("stage", "layers", "parameters", *(MEMORY_HEADS[item] for item in shown), "total"):
        table.add_column(name, justify="right", no_wrap=True)
    for stage, memory in enumerate(plan.memory):
        held = " ".join(f"{start}..{stop - 1}" for start, stop in plan.layer_ranges(stage))
        sizes = [compact_size(memory.items()[item]) for item in shown]
        table.add_row(str(stage), held, f"{plan.num_parameters[stage]:,}", *sizes, compact_size(memory.total_bytes))
    return table
