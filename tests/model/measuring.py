"""What the tests measure of layers: the bytes that autograd and a pass keep, and the FLOPs of products."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from live_storages import LiveStorages, size_of
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from pipemlp.engine.gradient_sums import GradientSums
from pipemlp.engine.virtual_stage import VirtualStage
from pipemlp.model.build import build_layer
from pipemlp.model.dropout import DropoutKey
from pipemlp.model.losses import build_loss
from pipemlp.model.weight_gradients import split_parameters
from pipemlp.planning.layers import LayerDescription
from pipemlp.planning.recompute import Recompute

KEY = DropoutKey(seed=1, step=2, first_row=3)
_seen: set[Recompute] = set()
"""Some tensors are made once, at the first use."""


def storage(tensor: Tensor) -> int:
    return tensor.untyped_storage().data_ptr()


def measured_kept_bytes(module: nn.Module, run: Callable[[], Tensor]) -> int:
    """Bytes of the distinct storages saved for the backward, without parameters and without the output."""
    sizes: dict[int, int] = {}

    def note(tensor: Tensor) -> Tensor:
        sizes[storage(tensor)] = tensor.untyped_storage().nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
        output = run()
    outside = {storage(output)} | {storage(parameter) for parameter in module.parameters()}
    return sum(size for pointer, size in sizes.items() if pointer not in outside)


def measured_flops(run: Callable[[], Tensor]) -> int:
    with FlopCounterMode(display=False) as counter:
        run()
    return counter.get_total_flops()


def layer_input(layer: LayerDescription, rows: int, dtype: torch.dtype = torch.float32):
    """Rows that fit the layer: a tensor, or for layer 0 numeric and categorical columns."""
    generator = torch.Generator().manual_seed(1)
    x = torch.randn(rows, layer.input_width, dtype=torch.float32, generator=generator)
    if layer.kind != "input":
        return x.to(dtype).requires_grad_()
    columns = [torch.randint(n, (rows,), generator=generator) for n in dict(layer.options)["cardinalities"]]
    return x, torch.stack(columns, 1) if columns else torch.empty(rows, 0, dtype=torch.int64)


@dataclass(frozen=True)
class PassBytes:
    """What a pass through a virtual stage held, in bytes, the batch itself aside.

    Args:
        kept: after the forward, its output let go.
        with_output: the same while the output is still there.
        pending: after the `I`, its result let go.
        left: after the `W`.
    """

    kept: int
    with_output: int
    pending: int
    left: int


def measured_pass(
    layers: Sequence[LayerDescription],
    rows: int,
    dtype: torch.dtype = torch.float32,
    recompute: Recompute = 0,
    loss=None,
) -> PassBytes:
    """Count by storages through a forward, an `I` and a `W` of these layers, with the loss where one is given."""
    modules = [build_layer(layer, seed=0, dtype=dtype) for layer in layers]
    runs = [[parameter for module in modules for parameter in module.parameters()]]
    of_sums = torch.float32 if dtype == torch.bfloat16 else dtype
    flat = torch.empty(sum(parameter.numel() for parameter in runs[0]), dtype=of_sums)
    sums = GradientSums(flat, runs, split_parameters(nn.ModuleList(modules)))
    stage = VirtualStage(modules, recompute, None if loss is None else _loss_function(loss))
    labels = None if loss is None else (_target(loss, rows, layers[-1].output_width), torch.ones(rows))
    entering = layer_input(layers[0], rows, dtype)
    if any(layer.dropout for layer in layers) or recompute not in _seen:  # tables of dropout, and the like
        _seen.add(recompute)
        _through(stage, entering, labels, sums, LiveStorages())
    with LiveStorages() as live:
        return _through(stage, entering, labels, sums, live)


def _through(stage: VirtualStage, entering, labels, sums: GradientSums, live: LiveStorages) -> PassBytes:
    sums.begin()
    x = entering.detach().clone() if isinstance(entering, Tensor) else entering
    output, kept = stage.forward(x, KEY, labels, sums)
    del x
    with_output = live.num_bytes
    gradient = torch.ones_like(output)
    del output
    after_forward = live.num_bytes - size_of([gradient])
    kept.backward(gradient, defer=True)
    del gradient
    pending = live.num_bytes
    kept.finish()
    return PassBytes(after_forward, with_output, pending, live.num_bytes)


def _loss_function(options):
    loss = build_loss(options)
    return lambda outputs, labels: loss(outputs, *labels)


def _target(options, rows: int, width: int) -> Tensor:
    if options.name == "cross_entropy":
        return torch.zeros(rows, dtype=torch.int64)
    return torch.zeros(rows, width)
