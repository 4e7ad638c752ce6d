"""Seconds of every layer for one micro-batch; the analytic ones, from a device's data sheet, are a roofline.

A matrix product takes as long as its operations at the device's peak, or its tensors to and from memory, whichever is
longer; what stands between the products only moves tensors. Starting a kernel costs nothing here, as no maker states
it: small layers take longer than this says, and a profile measures how much.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from pipemlp.planning.block_costs import gated_inner_width
from pipemlp.planning.devices import Device
from pipemlp.planning.layers import LayerDescription
from pipemlp.planning.recompute import Recompute
from pipemlp.planning.sums import SUM_BYTES


@dataclass(frozen=True)
class LayerTimes:
    """Seconds of one micro-batch by layer, while all ranks compute.

    Args:
        forward, input_gradient, weight_gradient: [n]; what a backward computes again is in its input gradient.
        alone: what a layer takes while the other ranks idle, as a share of that, [n]; empty for just as much.
    """

    forward: tuple[float, ...]
    input_gradient: tuple[float, ...]
    weight_gradient: tuple[float, ...]
    alone: tuple[float, ...] = ()


def analytic_times(
    layers: Sequence[LayerDescription], *, micro_batch_rows: int, value_bytes: int, recompute: Recompute, device: Device
) -> LayerTimes:
    """By the device's peak and memory bandwidth.

    Args:
        layers: the whole model.
        micro_batch_rows: rows of one micro-batch.
        value_bytes: of one value in the compute precision.
        recompute: what the backward computes again.
        device: the data sheet.
    """
    rows = micro_batch_rows
    first = next((layer.index for layer in layers if layer.parameters), -1)

    def seconds(num_bytes: float, flops: float = 0.0) -> float:
        return max(flops / device.flops_per_second(value_bytes), num_bytes / device.memory_bytes_per_second)

    forward, inward, weight = [], [], []
    for layer in layers:
        between = _bytes_between(layer, rows, value_bytes)
        products = list(_products(layer, rows, value_bytes))
        forward.append(seconds(between) + sum(seconds(size, flops) for _, flops, size in products))
        no_gradient = layer.index == first and layer.kind != "input"
        needed = [(flops, size) for over_input, flops, size in products if not (no_gradient and over_input)]
        inward.append(seconds(1.5 * between) + sum(seconds(size, flops) for flops, size in needed))
        sums = (value_bytes + 2 * SUM_BYTES) * layer.num_parameters  # the gradient is read, its sum read and written
        weight.append(sum(seconds(size, flops) for _, flops, size in products) + seconds(sums))
        if recompute == "elementwise":
            inward[-1] += seconds(between)
        elif recompute > 0:
            inward[-1] += forward[-1]
    return LayerTimes(tuple(forward), tuple(inward), tuple(weight))


def _products(layer: LayerDescription, rows: int, value_bytes: int) -> Iterator[tuple[bool, float, float]]:
    """Of each matrix product: whether it is over the layer's input, its operations, and the bytes of its tensors."""
    shapes = [parameter.shape for parameter in layer.parameters if len(parameter.shape) == 2]
    if layer.forward_flops_per_row == 0:
        return
    if sum(2 * wide * deep for wide, deep in shapes) != layer.forward_flops_per_row:  # a plug-in's own: taken as one
        size = rows * (layer.input_width + layer.output_width) + layer.num_parameters
        yield False, float(rows * layer.forward_flops_per_row), float(value_bytes * size)
        return
    for wide, deep in shapes:
        size = rows * deep + wide * deep + rows * wide
        yield deep == layer.input_width, float(2 * rows * wide * deep), float(value_bytes * size)


def _bytes_between(layer: LayerDescription, rows: int, value_bytes: int) -> float:
    """What a forward moves outside its products: norm, activation and dropout read and write, a sum reads two.

    A backward moves half as much again, as each of them reads what was kept besides.
    """
    if layer.kind == "input":
        return float(rows * value_bytes * 2 * layer.output_width) if layer.parameters else 0.0
    width, gated = layer.output_width, layer.kind == "gated"
    inner = gated_inner_width(float(str(dict(layer.options)["expansion"])), width) if gated else width
    normed = width if layer.kind == "plain" else layer.input_width
    values = (
        2 * normed * (layer.norm != "none")
        + 2 * inner * (layer.activation != "identity")
        + 3 * inner * gated
        + 2 * width * (layer.dropout > 0)
        + 3 * width * (gated or layer.kind == "residual")
    )
    return float(rows * (value_bytes * values + width * (layer.dropout > 0)))
