"""Layers that sleep instead of computing, so that eight ranks on two cores behave like eight devices.

    x ----- InputTime ----- + ----- y            forward     InputTime sleeps, the sum is the new activation
                            |                    I           InputTime's backward sleeps
    weight -- WeightTime ---+                    W           WeightTime's backward sleeps

The weight has a branch of its own in the graph, since that is where torch.distributed.pipelining looks for what
can wait; our executor is handed the same sleep as a task. All competitors run this one class. On the first layer
the input requires a gradient for everybody, so that every stage has the same three parts.
"""

import statistics
import time
from collections.abc import Callable
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn

CALIBRATION_SLEEPS = 60

_overshoot = 0.0


def calibrate_sleep(typical_seconds: float) -> float:
    """Measure what `time.sleep` overshoots by, on the median; all later sleeps are shorter by that.

    All ranks measure at the same time and take the same correction, for every competitor.
    """
    global _overshoot
    own = []
    for _ in range(CALIBRATION_SLEEPS):
        started = time.perf_counter()
        time.sleep(typical_seconds)
        own.append(time.perf_counter() - started - typical_seconds)
    everyone: list[list[float]] = [[] for _ in range(dist.get_world_size())]
    dist.all_gather_object(everyone, own)
    _overshoot = statistics.median(value for values in everyone for value in values)
    return _overshoot


class EmulatedLayer(nn.Module):
    """Takes the given time for its forward, its input gradient and its weight gradient, and changes no value.

    Args:
        seconds: of each of the three.
        current_pass: our executor's, which takes the weight gradient as a task; the others have none.
    """

    def __init__(self, seconds: float, current_pass: Callable[[], Any] = lambda: None) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(1))
        self._seconds = seconds
        self._current_pass = current_pass

    def forward(self, x: Tensor, dropout_key: object = None) -> Tensor:
        """x [n, width] -> [n, width]."""
        if torch.is_grad_enabled() and not x.requires_grad:
            x = x.detach().requires_grad_()
        timed: Tensor = _InputTime.apply(x, self._wait)
        return timed + _WeightTime.apply(self.weight, self._wait, self._current_pass())

    def _wait(self) -> None:
        time.sleep(max(0.0, self._seconds - _overshoot))


class _InputTime(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, wait: Callable[[], None]) -> Tensor:
        ctx.wait = wait
        wait()
        return x.view_as(x)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        ctx.wait()
        return gradient.clone(), None


class _WeightTime(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, weight: Tensor, wait: Callable[[], None], own: Any) -> Tensor:
        ctx.wait, ctx.own = wait, own
        return weight.clone()

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, None, None]:
        if ctx.own is not None:
            ctx.own.weight_gradient(ctx.wait)
            return None, None, None
        ctx.wait()
        return gradient, None, None


def emulated_loss(outputs: Tensor, target: Tensor) -> Tensor:
    """A scalar whose gradient costs next to nothing: the mean of outputs [n, width]; the target is not looked at."""
    return outputs.mean()
