"""What a rank really holds, counted by storages: in one process, and in DeepSpeed's engine on ranks."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor
from torch.multiprocessing.reductions import StorageWeakRef
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_iter
from torch.utils.checkpoint import checkpoint

from pipemlp.config.model import ModelConfig, Mse
from pipemlp.config.training import OptimizerConfig
from pipemlp.engine.pipeline import Pipeline
from pipemlp.model.build import build_layer
from pipemlp.model.dropout import DropoutKey
from pipemlp.model.losses import build_loss
from pipemlp.planning.layers import LayerDescription, describe_layers
from pipemlp.planning.plan import Plan
from pipemlp.planning.shapes import DataShape

SHAPE = DataShape(num_numeric=48, cardinalities=(), output_width=40, task="regression", num_rows=(96, 0, 0))


class LiveStorages(TorchDispatchMode):
    """Follows every storage made inside; `num_bytes` sums those that still exist."""

    def __init__(self) -> None:
        super().__init__()
        self._known: dict[int, tuple[StorageWeakRef, int]] = {}

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        result = func(*args, **(kwargs or {}))
        before = {tensor.untyped_storage().data_ptr() for tensor in _tensors((args, kwargs))}
        for tensor in _tensors(result):
            storage = tensor.untyped_storage()
            if storage.data_ptr() not in before:
                self._known[storage.data_ptr()] = (StorageWeakRef(storage), storage.nbytes())
        return result

    @property
    def num_bytes(self) -> int:
        return sum(size for reference, size in self._known.values() if not reference.expired())


def _tensors(tree: object) -> list[Tensor]:
    return [value for value in tree_iter(tree) if isinstance(value, Tensor) and value.device.type != "meta"]


def size_of(tensors: Iterable[Tensor]) -> int:
    """Bytes of the distinct storages."""
    storages = [tensor.untyped_storage() for tensor in tensors]
    return sum({storage.data_ptr(): storage.nbytes() for storage in storages}.values())


@dataclass(frozen=True)
class Held:
    """What one rank held, in bytes; the activations and buffers when the first backward began."""

    parameters: int
    gradients: int
    optimizer: int
    activations_and_buffers: int


def layers_of(model: dict, cardinalities: tuple[int, ...] = ()) -> tuple[LayerDescription, ...]:
    return describe_layers(ModelConfig.model_validate(model), replace(SHAPE, cardinalities=cardinalities))


def held_after_forwards(layers: Sequence[LayerDescription], num_in_flight: int, rows: int, recompute: int) -> int:
    """Bytes kept by `num_in_flight` forwards of a stage in this process, and by its largest group run again."""
    modules = [build_layer(layer, seed=0) for layer in layers]
    group = recompute or len(layers)
    starts = range(0, len(layers), group)

    def run(start: int, x: object, key: DropoutKey) -> Tensor:
        for module in modules[start : start + group]:
            x = module(x, key)
        return x

    run(0, _stage_input(layers[0], rows), DropoutKey(0, 0, 0))  # dropout makes its tables once
    kept = []
    with LiveStorages() as live:
        for micro_batch in range(num_in_flight):
            key = DropoutKey(0, 0, micro_batch * rows)
            x = _stage_input(layers[0], rows)
            for start in starts:
                x = run(start, x, key) if not recompute else checkpoint(run, start, x, key, use_reentrant=False)
            kept.append((x, (x - 1.0).square().mean(1)) if layers[-1].kind == "output" else x)
        num_bytes = live.num_bytes - sum(rows * 4 for entry in kept if isinstance(entry, tuple))
    return num_bytes + (max(_kept_by(run, start, layers, rows) for start in starts) if recompute else 0)


def _kept_by(run: Callable, start: int, layers: Sequence[LayerDescription], rows: int) -> int:
    x = _stage_input(layers[start], rows)
    with LiveStorages() as live:
        output = run(start, x, DropoutKey(0, 0, 0))
        return live.num_bytes - size_of([output])


def _stage_input(layer: LayerDescription, rows: int) -> object:
    x = torch.randn(rows, layer.input_width)
    if layer.kind != "input":
        return x.requires_grad_()
    return x, torch.zeros(rows, len(dict(layer.options)["cardinalities"]), dtype=torch.int64)


def held_by_engine(model: dict, plan: Plan, optimizer: OptimizerConfig, precision: str) -> Held:
    """Body: two training batches, counted in the second, when every buffer and state exist."""
    loss = build_loss(Mse())
    pipeline = Pipeline(
        layers_of(model),
        plan,
        optimizer=optimizer,
        loss=lambda outputs, labels: loss(outputs, *labels),
        clip_norm=None,
        precision=precision,
        seed=0,
        timeout_seconds=60,
    )
    gradients, activations = [], []
    pipeline.train_batch(iter(_micro_batches(plan)), step=0, learning_rate=0.01)
    _watch(pipeline, gradients, activations)
    batch = _micro_batches(plan)
    with LiveStorages() as live:
        activations.append(live)
        pipeline.train_batch(iter(batch), step=1, learning_rate=0.01)
    return Held(
        parameters=size_of(pipeline.module.parameters()),
        gradients=gradients[0],
        optimizer=_optimizer_bytes(pipeline),
        activations_and_buffers=activations[1],
    )


def _micro_batches(plan: Plan) -> list:
    rows = plan.micro_batch_rows
    inputs = (torch.ones(rows, SHAPE.num_numeric), torch.empty(rows, 0, dtype=torch.int64))
    return [(inputs, (torch.ones(rows, SHAPE.output_width), torch.ones(rows)))] * plan.num_micro_batches


def _watch(pipeline: Pipeline, gradients: list, activations: list) -> None:
    engine = pipeline.engine
    table = dict(engine._INSTRUCTION_MAP)
    backward = next(kind for kind in table if kind.__name__ == "BackwardPass")
    step = next(kind for kind in table if kind.__name__ == "OptimizerStep")
    run_backward, run_step = table[backward], table[step]

    def watched_backward(self, buffer_id):
        if len(activations) == 1:
            activations.append(activations[0].num_bytes)
        run_backward(self, buffer_id)

    def watched_step(self, *args, **kwargs):
        gradients.append(_gradient_bytes(pipeline))
        run_step(self, *args, **kwargs)

    engine._INSTRUCTION_MAP = table | {backward: watched_backward, step: watched_step}


def _gradient_bytes(pipeline: Pipeline) -> int:
    tensors = [parameter.grad for parameter in pipeline.module.parameters() if parameter.grad is not None]
    optimizer = pipeline.engine.optimizer
    for name in ("fp32_groups_gradients_flat", "averaged_gradients", "all_grad_tensors"):
        tensors += [value for value in tree_iter(getattr(optimizer, name, None)) if isinstance(value, Tensor)]
    return size_of(tensors)


def _optimizer_bytes(pipeline: Pipeline) -> int:
    optimizer = pipeline.engine.optimizer
    base = getattr(optimizer, "optimizer", optimizer)
    masters = [p for group in optimizer.param_groups for p in group["params"]]
    own = {p.untyped_storage().data_ptr() for p in pipeline.module.parameters()}
    states = [v for p in masters for v in base.state[p].values() if isinstance(v, Tensor) and v.dim() > 0]
    return size_of([*states, *(p for p in masters if p.untyped_storage().data_ptr() not in own)])
