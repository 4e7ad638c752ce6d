"""From a layer description to its torch module, one layer and one parameter at a time."""

import torch
from torch import nn

from pipemlp.model.blocks import module_class
from pipemlp.model.initialisation import draw_parameter, layer_generator
from pipemlp.planning.layers import LayerDescription


def build_layer(
    layer: LayerDescription,
    seed: int,
    device: torch.device | str = "cpu",
    dtype: torch.dtype = torch.float32,
) -> nn.Module:
    """The layer's module, in training mode, with parameters that depend on `seed` and the description only.

    Parameters are drawn in float32 on the CPU, one after the other, then moved and cast: all types and
    devices start from the same numbers, and a layer never exists twice. The global generators are untouched.

    Raises:
        ValueError: if the module's parameters are not those described (a mistake in a plug-in).
    """
    cls = module_class(layer.kind)
    with torch.device("meta"):
        module = cls(layer)
    _check_described(module, layer)
    activated = getattr(cls, "activated", ())
    generator = layer_generator(seed, layer.index)
    for name, empty in list(module.named_parameters()):
        value = draw_parameter(name, empty.shape, layer, activated, generator).to(device, dtype)
        owner, _, leaf = name.rpartition(".")
        setattr(module.get_submodule(owner), leaf, nn.Parameter(value, requires_grad=empty.requires_grad))
    _fill_buffers(module, layer, device, dtype)
    return module


def _check_described(module: nn.Module, layer: LayerDescription) -> None:
    described = [(parameter.name, parameter.shape) for parameter in layer.parameters]
    built = [(name, tuple(value.shape)) for name, value in module.named_parameters(remove_duplicate=False)]
    if described != built:
        raise ValueError(
            f"layer {layer.index} ({layer.kind}): the description has the parameters {described}, the module {built}"
        )
    for name, value in module.named_parameters():
        if not value.requires_grad:
            raise ValueError(
                f"layer {layer.index} ({layer.kind}): the parameter {name} does not train; make it a buffer"
            )


def _fill_buffers(module: nn.Module, layer: LayerDescription, device: torch.device | str, dtype: torch.dtype) -> None:
    """Give the module's buffers the values that its constructor computes."""
    empty = dict(module.named_buffers())
    if any(buffer.numel() for buffer in empty.values()):
        with torch.random.fork_rng(devices=[]):
            filled = dict(module_class(layer.kind)(layer).named_buffers())
    else:
        filled = {name: torch.empty(buffer.shape, dtype=buffer.dtype) for name, buffer in empty.items()}
    for name, buffer in filled.items():
        owner, _, leaf = name.rpartition(".")
        value = buffer.to(device, dtype if buffer.is_floating_point() else buffer.dtype)
        setattr(module.get_submodule(owner), leaf, value)
