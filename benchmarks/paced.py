"""A plain layer that computes, and sleeps besides: replicas of a given pace on a machine of few cores.

    block: {name: paced, seconds: 0.03, stragglers: one}

sleeps a third of the seconds in the forward, and two thirds in the backward, before its gradients are there.
Importing registers it.
"""

import random
from collections.abc import Callable, Mapping
from functools import partial
from types import MappingProxyType
from typing import Literal

import torch
import torch.distributed as dist
from emulated_parts import _InputTime, _sleep
from torch import Tensor

from pipemlp.config.section import Named, NonNegativeFloat
from pipemlp.model.blocks import register_block
from pipemlp.model.dropout import DropoutKey
from pipemlp.model.plain import PlainBlock
from pipemlp.planning.block_costs import _plain
from pipemlp.planning.layers import LayerDescription

STRAGGLERS = Literal["none", "one", "some"]
SLOW_REPLICA, SLOW_FACTOR = 0, 3.0
SOMETIMES_FACTOR, SOMETIMES_PROBABILITY = 5.0, 0.1


def _sometimes(replica: int, step: int) -> float:
    """The same for a replica's n-th step in all that are compared."""
    return SOMETIMES_FACTOR if random.Random(f"{replica} {step}").random() < SOMETIMES_PROBABILITY else 1.0


FACTORS: Mapping[str, Callable[[int, int], float]] = MappingProxyType(
    {
        "none": lambda replica, step: 1.0,
        "one": lambda replica, step: SLOW_FACTOR if replica == SLOW_REPLICA else 1.0,
        "some": _sometimes,
    }
)
"""How many times slower a replica is in its n-th step."""


class PacedOptions(Named):
    """Seconds of a layer's forward and backward together, and who takes longer."""

    name: Literal["paced"] = "paced"
    seconds: NonNegativeFloat
    stragglers: STRAGGLERS = "none"


@register_block("paced", describe=_plain, options=PacedOptions)
class Paced(PlainBlock):
    """For one stage and one micro-batch: a rank is a replica, and a forward a step."""

    def __init__(self, layer: LayerDescription) -> None:
        super().__init__(layer)
        options = dict(layer.options)
        self._seconds = float(options["seconds"])  # type: ignore[arg-type]
        self._factor = FACTORS[str(options["stragglers"])]
        self._steps = 0

    def forward(self, x: Tensor, dropout_key: DropoutKey | None = None) -> Tensor:
        """x [n, input_width] -> [n, output_width]."""
        result = super().forward(x, dropout_key)
        if not torch.is_grad_enabled():
            return result
        seconds = self._seconds * self._factor(dist.get_rank(), self._steps)
        self._steps += 1
        timed: Tensor = _InputTime.apply(result, partial(_sleep, seconds / 3), partial(_sleep, 2 * seconds / 3))
        return timed
