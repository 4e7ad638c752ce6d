"""What a rank really holds, counted by storages: through a pass in one process, and through steps on ranks."""

import gc
from collections.abc import Sequence
from dataclasses import dataclass, replace
from unittest.mock import patch

import torch
from live_storages import LiveStorages
from torch import Tensor, nn
from torch.utils._pytree import tree_iter

from pipemlp.config.gradients import GradientsConfig
from pipemlp.config.model import ModelConfig, Mse
from pipemlp.config.root import RunConfig
from pipemlp.config.training import OptimizerConfig, Sgd
from pipemlp.engine import virtual_stage
from pipemlp.engine.gradient_sums import GradientSums
from pipemlp.engine.pipeline import Pipeline
from pipemlp.engine.place import Place
from pipemlp.engine.virtual_stage import VirtualStage
from pipemlp.model import dropout_mask
from pipemlp.model.build import build_layer
from pipemlp.model.dropout import DropoutKey
from pipemlp.model.losses import build_loss
from pipemlp.model.weight_gradients import split_parameters
from pipemlp.planning.costs import analytic_costs, entering_bytes
from pipemlp.planning.layers import LayerDescription, describe_layers
from pipemlp.planning.partition import boundaries_for
from pipemlp.planning.plan import Plan
from pipemlp.planning.recompute import Recompute, group_bounds
from pipemlp.planning.shapes import DataShape
from pipemlp.schedule.methods import make_schedule
from pipemlp.training.batches import BatchLoader
from pipemlp.training.memory_watch import MemoryWatch, resting_bytes, size_of
from pipemlp.training.preparation import prepare_run
from pipemlp.training.worker import build_pipeline

SHAPE = DataShape(num_numeric=48, cardinalities=(), output_width=40, task="regression", num_rows=(96, 0, 0))
LOSS = build_loss(Mse())


def layers_of(model: dict, cardinalities: tuple[int, ...] = ()) -> tuple[LayerDescription, ...]:
    return describe_layers(ModelConfig.model_validate(model), replace(SHAPE, cardinalities=cardinalities))


def held_when_run_again(layers: Sequence[LayerDescription], num_in_flight: int, rows: int, recompute: Recompute) -> int:
    """Bytes kept by `num_in_flight` forwards in this process, with the largest group of one of them run again."""
    if not isinstance(recompute, int) or recompute == 0:
        return _held_in_backward(layers, num_in_flight, rows, recompute)
    bounds = group_bounds([bool(layer.parameters) for layer in layers], recompute)
    groups = [layers[start:stop] for start, stop in bounds]
    again = [_held_in_backward(group, 1, rows, 0) - entering_bytes(group[0], rows, 4) for group in groups]
    return _held_after_forwards(layers, num_in_flight, rows, recompute) + max(again)


def _held_after_forwards(
    layers: Sequence[LayerDescription], num_in_flight: int, rows: int, recompute: Recompute
) -> int:
    forward = _forward_of(layers, rows, recompute)
    with LiveStorages() as live:
        kept = [forward(index) for index in range(num_in_flight)]
        return live.num_bytes if kept else 0


def _held_in_backward(layers: Sequence[LayerDescription], num_in_flight: int, rows: int, recompute: Recompute) -> int:
    """When the gradient of the first of them sets out, after what had to be run again."""
    forward = _forward_of(layers, rows, recompute)
    counts: list[int] = []
    start = virtual_stage.run_backward

    def counted_backward(*arguments) -> None:
        counts.append(live.num_bytes)
        start(*arguments)

    gradient = torch.ones(rows, layers[-1].output_width)
    with LiveStorages() as live, patch.object(virtual_stage, "run_backward", counted_backward):
        kept = [forward(index) for index in range(num_in_flight)]
        kept[0].backward(gradient, defer=False)
    return counts[0]


def _forward_of(layers: Sequence[LayerDescription], rows: int, recompute: Recompute):
    """`forward(index)`: what the forward of a micro-batch keeps, its output let go."""
    modules = [build_layer(layer, seed=0) for layer in layers]
    runs = [[parameter for module in modules for parameter in module.parameters()]]
    sums = GradientSums(torch.empty(sum(p.numel() for p in runs[0])), runs, split_parameters(nn.ModuleList(modules)))
    sums.begin()
    stage = VirtualStage(modules, recompute, None)
    entering = _entering(layers[0], rows)

    def forward(index: int):
        x = entering.clone() if isinstance(entering, Tensor) else entering
        return stage.forward(x, DropoutKey(0, 0, index * rows), None, sums)[1]

    forward(0).backward(torch.ones(rows, layers[-1].output_width), defer=False)  # tables of dropout are made once
    return forward


def _entering(layer: LayerDescription, rows: int):
    x = torch.randn(rows, layer.input_width)
    if layer.kind != "input":
        return x
    return x, torch.zeros(rows, len(dict(layer.options)["cardinalities"]), dtype=torch.int64)


@dataclass(frozen=True)
class Execution:
    """A model and how it is executed."""

    model: dict
    order: str
    stages: int
    micro_batches: int = 6
    rows: int = 256
    """So many that a mask of dropout is not drawn for several micro-batches at once, which stays for a while."""
    recompute: Recompute = 0
    cardinalities: tuple[int, ...] = ()
    replicas: int = 1
    zero_stage: int = 0
    precision: str = "fp32"
    gradients: GradientsConfig = GradientsConfig()

    def layers(self) -> tuple[LayerDescription, ...]:
        return layers_of(self.model, self.cardinalities)

    def plan(self) -> Plan:
        """With the costs of the descriptions, by which the schedule is made, too."""
        layers, schedule = self.layers(), make_schedule(self.order, self.stages, self.micro_batches)
        boundaries = boundaries_for("uniform", layers, self.stages, schedule.num_virtual_stages)
        costs = analytic_costs(
            layers,
            boundaries,
            micro_batch_rows=self.rows,
            value_bytes=2 if self.precision == "bf16" else 4,
            recompute=self.recompute,
        )
        sizes = self.stages, self.micro_batches, schedule.num_virtual_stages
        schedule = make_schedule(self.order, *sizes, costs=costs)
        return Plan(boundaries, schedule, self.replicas, self.rows, self.zero_stage, self.recompute, costs)


@dataclass(frozen=True)
class Held:
    """What one rank held, in bytes.

    Args:
        parameters, gradients, optimizer: when the optimizer took its step.
        between: activations and tensors that cross the cuts, the most between two actions.
        within: the same at any time.
    """

    parameters: int
    gradients: int
    optimizer: int
    between: int
    within: int


class _Peak(LiveStorages):
    """Also follows the most that ever existed."""

    num_peak_bytes = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        result = super().__torch_dispatch__(func, types, args, kwargs)
        self.num_peak_bytes = max(self.num_peak_bytes, self.num_bytes)
        return result


def held_by_executor(execution: Execution, optimizer: OptimizerConfig | None = None) -> Held:
    """Body: two training batches, counted in the second, when every buffer and state exist."""
    pipeline = _pipeline(execution, optimizer)
    batch = _micro_batches(execution)
    pipeline.train_batch(batch, step=0, learning_rate=1e-9)
    gradients: list[int] = []
    engine = pipeline.engine
    take = type(engine)._take_model_step

    def counted_take(lr_kwargs: object) -> object:
        gradients.append(_gradient_bytes(pipeline))
        return take(engine, lr_kwargs)

    engine._take_model_step = counted_take
    live = _Peak()
    between = _count_between_actions(pipeline, live)
    pipeline.clock.listen()  # else nobody tells the clock
    with live:
        pipeline.train_batch(batch, step=1, learning_rate=1e-9)
    return Held(
        parameters=size_of(pipeline.module.parameters()),
        gradients=gradients[0],
        optimizer=_optimizer_bytes(pipeline),
        between=max(between),
        within=live.num_peak_bytes,
    )


def _pipeline(
    execution: Execution, optimizer: OptimizerConfig | None = None, clip_norm: float | None = None
) -> Pipeline:
    return Pipeline(
        execution.layers(),
        execution.plan(),
        optimizer=optimizer or Sgd(),
        loss=lambda outputs, labels: LOSS(outputs, *labels),
        clip_norm=clip_norm,
        precision=execution.precision,
        seed=0,
        timeout_seconds=60,
        gradients=execution.gradients,
    )


def _count_between_actions(pipeline: Pipeline, live: LiveStorages) -> list[int]:
    """A growing list of what is alive after every computation and every receive that was posted."""
    counts: list[int] = []
    transport, clock = pipeline._executor.transport, pipeline.clock
    let_go, end = transport.let_go, clock.end

    def counted_let_go() -> None:
        let_go()
        counts.append(live.num_bytes)

    def counted_end(action) -> None:
        end(action)
        if action.kind in ("RECV_F", "RECV_B"):
            counts.append(live.num_bytes)

    transport.let_go, clock.end = counted_let_go, counted_end
    return counts


def _micro_batches(execution: Execution) -> list:
    rows = execution.rows
    inputs = torch.ones(rows, SHAPE.num_numeric), torch.ones(rows, len(execution.cardinalities), dtype=torch.int64)
    return [(inputs, (torch.ones(rows, SHAPE.output_width), torch.ones(rows)))] * execution.micro_batches


def _gradient_bytes(pipeline: Pipeline) -> int:
    """The sums that the executor makes, and what the optimizer makes of them."""
    tensors = [own.view for own in pipeline._sums._sums.values()]
    optimizer = pipeline.engine.optimizer
    for name in ("fp32_groups_gradients_flat", "averaged_gradients", "all_grad_tensors"):
        tensors += [value for value in tree_iter(getattr(optimizer, name, None)) if isinstance(value, Tensor)]
    tensors += [parameter.grad for parameter in pipeline.module.parameters() if parameter.grad is not None]
    return size_of(tensors)


def _optimizer_bytes(pipeline: Pipeline) -> int:
    optimizer = pipeline.engine.optimizer
    base = getattr(optimizer, "optimizer", optimizer)
    masters = [p for group in optimizer.param_groups for p in group["params"]]
    own = {p.untyped_storage().data_ptr() for p in pipeline.module.parameters()}
    states = [v for p in masters for v in base.state[p].values() if isinstance(v, Tensor) and v.dim() > 0]
    return size_of([*states, *(p for p in masters if p.untyped_storage().data_ptr() not in own)])


def watched_peak(execution: Execution, optimizer: OptimizerConfig | None = None, clip_norm: float | None = None) -> int:
    """Body: the peak of the third of three training steps, the batch behind it in hand as if it were read ahead."""
    gc.collect()  # pipelines of the tests before
    forget_masks()
    before = resting_bytes()
    pipeline = _pipeline(execution, optimizer, clip_norm)
    watch = MemoryWatch(torch.device("cpu"))
    upcoming = _read(execution, pipeline.place)
    for step in range(3):
        batch, upcoming = upcoming, _read(execution, pipeline.place)
        if step == 2:
            watch.begin()
        pipeline.train_batch(batch, step=step, learning_rate=1e-9)
    return watch.end() - before


def forget_masks() -> None:
    """The tables of dropout, which outlive the tests before."""
    dropout_mask._windows.clear()
    for made in (dropout_mask._row_hashes, dropout_mask._column_hashes):
        made.cache_clear()


def _read(execution: Execution, place: Place) -> list:
    """A new batch, of which a rank has what it reads."""
    share = execution.rows * execution.micro_batches
    codes = torch.zeros(share, len(execution.cardinalities), dtype=torch.int64)
    inputs = [torch.randn(share, SHAPE.num_numeric), codes] if place.reads_inputs else []
    labels = [torch.ones(share, SHAPE.output_width), torch.ones(share)] if place.computes_loss else []
    parts = [[t.split(execution.rows) for t in tensors] for tensors in (inputs, labels)]
    return (
        [tuple(tuple(t[i] for t in tensors) or None for tensors in parts) for i in range(execution.micro_batches)]
        if inputs or labels
        else []
    )


def watched_run(config: dict, watched_step: int | None, num_steps: int) -> tuple[int, list[Tensor]]:
    """Body: steps as in a run, with the reader of batches in its thread; the peak, and the weights at the end."""
    gc.collect()
    forget_masks()
    before = resting_bytes()
    run = prepare_run(RunConfig.model_validate(config))
    pipeline, cpu, peak = build_pipeline(run), torch.device("cpu"), 0
    loader = BatchLoader(run.data, run.plan, pipeline.place, seed=run.config.run.seed, device=cpu)
    watch = MemoryWatch(cpu)
    for step, batch in enumerate(loader.training_batches((0, step) for step in range(num_steps))):
        if step == watched_step:
            watch.begin()
        pipeline.train_batch(batch, step=step, learning_rate=1e-9)
        if step == watched_step:
            peak = watch.end() - before
    return peak, [parameter.detach().clone() for parameter in pipeline.module.parameters()]
