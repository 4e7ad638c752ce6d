"""The norms by name; each normalises the values of a row and keeps its input and per-row statistics only."""

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

NORM_EPS = 1e-5


def build_norm(norm: str, width: int) -> nn.Module:
    """`none`, `layer` (Ba et al., 2016) or `rms` (Zhang and Sennrich, 2019) over the last `width` values."""
    if norm == "none":
        return nn.Identity()
    return {"layer": nn.LayerNorm, "rms": RmsNorm}[norm](width, eps=NORM_EPS)


class RmsNorm(nn.Module):
    """x / sqrt(mean(x^2) + eps) * weight, computed in float32 for narrower types."""

    def __init__(self, width: int, eps: float = NORM_EPS) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width))
        self.eps = eps

    def forward(self, x: Tensor) -> Tensor:
        """x [..., width] -> [..., width]."""
        if x.is_cuda:  # one fused kernel, which keeps what ours keeps
            return functional.rms_norm(x, self.weight.shape, self.weight, self.eps)
        return _RmsNormalise.apply(x, self.weight, self.eps)


class _RmsNormalise(torch.autograd.Function):
    """PyTorch's own on the CPU keeps x and x / rms, both in float32; this one keeps x and 1 / rms."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, eps: float) -> Tensor:
        wide = _widened(x)
        scale = torch.rsqrt(wide.square().mean(-1, keepdim=True).add_(eps))
        ctx.save_for_backward(x, weight, scale)
        return (wide * scale).mul_(weight).to(x.dtype)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, Tensor | None, None]:
        x, weight, scale = ctx.saved_tensors
        normed, gradient = _widened(x) * scale, _widened(gradient)
        x_gradient = weight_gradient = None
        if ctx.needs_input_grad[0]:
            inner = gradient * weight
            along = (inner * normed).mean(-1, keepdim=True)
            x_gradient = inner.sub_(normed * along).mul_(scale).to(x.dtype)
        if ctx.needs_input_grad[1]:
            weight_gradient = (gradient * normed).flatten(end_dim=-2).sum(0).to(weight.dtype)
        return x_gradient, weight_gradient, None


def _widened(x: Tensor) -> Tensor:
    return x if x.dtype == torch.float64 else x.float()
