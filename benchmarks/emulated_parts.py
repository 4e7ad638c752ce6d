"""Emulated layers whose forward, input gradient and weight gradient take different times, by the rows they are given.

    block: {name: emulated-parts, rows: 32, forward: 0.002, input_gradient: 0.001, weight_gradient: 0.002}

sleeps as long for 32 rows, half as long for 16; like the layers of emulated.py otherwise. Importing registers it.
"""

import time
from collections.abc import Callable
from functools import partial
from typing import Any, Literal

import torch
from emulated import _WeightTime, calibrate_sleep
from ours_schedules import hidden_layers
from torch import Tensor, nn

from pipemlp.config.section import Named, NonNegativeFloat, Positive
from pipemlp.model.blocks import register_block
from pipemlp.model.weight_gradients import current_pass
from pipemlp.planning.block_parts import BlockCost, BlockSetting, Parameter
from pipemlp.planning.layer_times import LayerTimes
from pipemlp.planning.layers import LayerDescription

WIDTH = 64
"""Of all emulated layers: what crosses a cut is small, and the same everywhere."""

_overshoot = 0.0


def calibrate_parts(typical_seconds: float) -> float:
    """On every rank: shorten all sleeps by what `time.sleep` overshoots by; see `calibrate_sleep`."""
    global _overshoot
    _overshoot = calibrate_sleep(typical_seconds)
    return _overshoot


def _sleep(seconds: float) -> None:
    if seconds > _overshoot:
        time.sleep(seconds - _overshoot)


class EmulatedPartsOptions(Named):
    """Seconds of each part for so many rows."""

    name: Literal["emulated-parts"] = "emulated-parts"
    rows: Positive
    forward: NonNegativeFloat
    input_gradient: NonNegativeFloat
    weight_gradient: NonNegativeFloat


def _describe(block: BlockSetting) -> BlockCost:
    """Counts its input as kept, as that of layers which compute is."""
    return BlockCost(
        parameters=(Parameter("weight", (1,)),),
        forward_flops_per_row=0,
        kept_values_per_row=block.input_width,
        kept_bytes_per_row=0,
    )


@register_block("emulated-parts", describe=_describe, options=EmulatedPartsOptions)
class EmulatedParts(nn.Module):
    """Changes no value, and takes its time."""

    def __init__(self, layer: LayerDescription) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(1))
        options: dict[str, Any] = dict(layer.options)
        parts = ("forward", "input_gradient", "weight_gradient")
        self._row_seconds = tuple(options[part] / options["rows"] for part in parts)

    def forward(self, x: Tensor, dropout_key: object = None) -> Tensor:
        """x [n, width] -> [n, width]."""
        if torch.is_grad_enabled() and not x.requires_grad:
            x = x.detach().requires_grad_()  # the first layer has an input gradient, of the seconds it was given
        forward, inward, weight = (partial(_sleep, len(x) * seconds) for seconds in self._row_seconds)
        timed: Tensor = _InputTime.apply(x, forward, inward)
        return timed + _WeightTime.apply(self.weight, weight, current_pass())


class _InputTime(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, forward: Callable[[], None], inward: Callable[[], None]) -> Tensor:
        ctx.inward = inward
        forward()
        return x.view_as(x)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None]:
        ctx.inward()
        return gradient.clone(), None, None


def emulated_parts_layers(times: LayerTimes, rows: int) -> tuple[LayerDescription, ...]:
    """Layers that take these times for so many rows, without input handling and head."""
    columns = zip(times.forward, times.input_gradient, times.weight_gradient, strict=True)
    hidden = []
    for forward, inward, weight in columns:
        block = {"rows": rows, "forward": forward, "input_gradient": inward, "weight_gradient": weight}
        hidden.append({"width": WIDTH, "block": {"name": "emulated-parts", **block}})
    return hidden_layers({"hidden": hidden}, WIDTH)
