"""What the tests measure of a layer: the bytes that autograd keeps, and the FLOPs of its products."""

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from pipemlp.planning.layers import LayerDescription


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
