"""Boundaries for a plain DeepSpeed `PipelineModule`, which its `partition_method="profile"` promises and does not give.

    boundaries = profiled_boundaries(layers, num_stages=4, example=torch.randn(32, 1024))
    stages = [LayerSpec(Run, layers[start:stop]) for start, stop in pairwise(boundaries)]
    PipelineModule(stages, num_stages=4, partition_method="uniform", loss_fn=...)

One entry for each stage, cut uniformly, is the way to tell DeepSpeed where to cut: it has no other. Every rank builds
its own run only.
"""

import copy
import time
from collections.abc import Callable, Sequence
from statistics import median
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves, tree_map

from pipemlp.planning.balanced import balanced
from pipemlp.planning.layer_costs import LayerCosts

NUM_ROUNDS = 7
STATE_BYTES = 16
"""Per parameter: weight, gradient, two moments of Adam, all in float32."""


class Run(nn.Module):
    """Layers one after the other, as one entry of a `PipelineModule`.

    Args:
        layers: modules, specs that `build()` one, such as DeepSpeed's `LayerSpec`, or functions of a tensor.
    """

    def __init__(self, layers: Sequence[Any]) -> None:
        super().__init__()
        self.layers = nn.ModuleList(_built(layer) for layer in layers)

    def forward(self, x: Any) -> Any:
        """Through all of them."""
        for layer in self.layers:
            x = layer(x)
        return x


class _Function(nn.Module):
    """A layer without parameters, such as `torch.relu`."""

    def __init__(self, function: Callable[[Any], Any]) -> None:
        super().__init__()
        self.function = function

    def forward(self, x: Any) -> Any:
        """Its result."""
        return self.function(x)


class _Measured(NamedTuple):
    seconds: float
    parameters: int
    sent_bytes: float


def profiled_boundaries(
    layers: Sequence[Any],
    num_stages: int,
    example: Any,
    *,
    memory_cap_bytes: float | None = None,
    message_seconds: Callable[[float], float] = lambda num_bytes: 0.0,
    device: torch.device | str = "cpu",
) -> tuple[int, ...]:
    """Where to cut so that the slowest stage is as fast as possible; provably the best contiguous cut.

    Every layer is built, or copied, run forwards and backwards a few times, and let go, one after the other: no second
    model is in memory as a whole, yours stays as it is, and random numbers go on as if nothing had been run. Run it
    once, in one process, and give all ranks its result.

    Args:
        layers: of the pipeline: modules, specs that `build()` one, or functions; each takes what the one before
            returns.
        num_stages: of the pipeline.
        example: one micro-batch as the first layer takes it, a tensor or a tuple of tensors.
        memory_cap_bytes: for parameters, gradients and Adam's state of a stage (16 bytes per parameter).
        message_seconds: of sending so many bytes to the next stage; nothing if not given.
        device: to measure on.

    Returns:
        Layer indices, one more than there are stages: `(0, 3, 7)` cuts seven layers behind the third.

    Raises:
        ValueError: if there are fewer layers with parameters than stages, or no cut keeps the cap.
    """
    measured, place = [], torch.device(device)
    x = tree_map(lambda leaf: leaf.to(place) if isinstance(leaf, Tensor) else leaf, example)
    with torch.random.fork_rng(range(torch.cuda.device_count()) if place.type == "cuda" else []):
        for layer in layers:
            found, x = _measure(copy.deepcopy(_built(layer)).to(place), x)
            measured.append(found)
    zeros = (0.0,) * len(measured)
    sent = tuple(each.sent_bytes for each in measured[:-1])
    costs = LayerCosts(
        forward=tuple(each.seconds for each in measured),
        input_gradient=zeros,
        weight_gradient=zeros,
        crossing_seconds=tuple(map(message_seconds, sent)),
        kept_bytes=zeros,
        pending_bytes=zeros,
        state_bytes=tuple(float(STATE_BYTES * each.parameters) for each in measured),
        crossing_bytes=sent,
    )
    return balanced(
        costs,
        num_stages,
        trainable=[each.parameters > 0 for each in measured],
        memory_caps=None if memory_cap_bytes is None else [memory_cap_bytes] * num_stages,
    ).boundaries


def _built(layer: Any) -> nn.Module:
    if isinstance(layer, nn.Module):
        return layer
    return layer.build() if hasattr(layer, "build") else _Function(layer)


def _measure(module: nn.Module, x: Any) -> tuple[_Measured, Any]:
    """Seconds of a forward and a backward on the median, and what the next layer takes."""
    seconds = []
    for _ in range(1 + NUM_ROUNDS):
        entering = tree_map(_fresh, x)
        started = _now(entering)
        result = module(entering)
        ends = [leaf for leaf in tree_leaves(result) if isinstance(leaf, Tensor) and leaf.requires_grad]
        if ends:
            torch.autograd.backward(ends, [torch.ones_like(end) for end in ends])
        seconds.append(_now(result) - started)
        module.zero_grad(set_to_none=True)
    leaving = [leaf for leaf in tree_leaves(result) if isinstance(leaf, Tensor)]
    num_parameters = sum(parameter.numel() for parameter in module.parameters() if parameter.requires_grad)
    sent = float(sum(leaf.numel() * leaf.element_size() for leaf in leaving))
    return _Measured(median(seconds[1:]), num_parameters, sent), result


def _fresh(leaf: Any) -> Any:
    """Of a new graph, as a received tensor is; a copy, which a layer may change in place."""
    if not isinstance(leaf, Tensor):
        return leaf
    return leaf.detach().requires_grad_(leaf.is_floating_point()).clone()


def _now(tree: Any) -> float:
    if any(isinstance(leaf, Tensor) and leaf.is_cuda for leaf in tree_leaves(tree)):
        torch.cuda.synchronize()
    return time.perf_counter()
