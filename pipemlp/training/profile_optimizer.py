"""What the optimizer takes per parameter: the run's own, over as many of the model's tensors as tell."""

import math
from collections.abc import Iterator, Sequence

import torch

from pipemlp.config.root import RunConfig
from pipemlp.engine.optimizer import build_optimizer
from pipemlp.planning.layers import LayerDescription
from pipemlp.profiling.rounds import measure, timing_of
from pipemlp.profiling.together import Together

MOST_PARAMETERS = 2**24
"""Of a rank; with gradients and two moments 256 MiB, which no cache holds."""
NUM_BLOCKS = 8
GRADIENT = 1e-3
"""Of a value of 1."""


def optimizer_seconds(config: RunConfig, layers: Sequence[LayerDescription], together: Together) -> float:
    """Seconds per parameter, while every rank does the same; in float32, as every precision does.

    Clipping is included, and the look whether all gradients are finite, which comes before it (`engine.votes`).

    Args:
        config: for the optimizer and clipping.
        layers: of the whole model; a rank of one stage holds them all.
        together: the ranks.
    """
    sizes = list(_sizes(layers))
    # numbers as they come: of zeros an update takes up to twice as long
    generator = torch.Generator(together.device).manual_seed(0)
    values = torch.empty(sum(sizes), device=together.device).uniform_(-1.0, 1.0, generator=generator)
    gradients = values * GRADIENT
    parameters = [torch.nn.Parameter(own) for own in values.split(sizes)]
    for parameter, gradient in zip(parameters, gradients.split(sizes), strict=True):
        parameter.grad = gradient
    optimizer = build_optimizer(config.optimizer, parameters)

    def one_round() -> tuple[float]:
        started = together.now()
        bool(gradients.norm().isfinite())
        if config.training.clip_norm is not None:
            torch.nn.utils.clip_grad_norm_(parameters, config.training.clip_norm)
        optimizer.step()
        return (together.now() - started,)

    (seconds,) = timing_of(measure(one_round, together, NUM_BLOCKS)).phases
    return seconds / len(values)


def _sizes(layers: Sequence[LayerDescription]) -> Iterator[int]:
    """Of the first tensors, `MOST_PARAMETERS` in all."""
    left = MOST_PARAMETERS
    for layer in layers:
        for parameter in layer.parameters:
            size = min(math.prod(parameter.shape), left)
            if size > 0:
                yield size
            left -= size
