"""The activations by name, and the gain that keeps the variance of what passes through each."""

from collections.abc import Callable, Mapping
from types import MappingProxyType

import torch
from torch import Tensor
from torch.nn import functional

LEAKY_SLOPE = 0.01

ACTIVATIONS: Mapping[str, Callable[[Tensor], Tensor]] = MappingProxyType(
    {
        "relu": functional.relu,
        "gelu": functional.gelu,
        "silu": functional.silu,
        "tanh": torch.tanh,
        "leaky_relu": functional.leaky_relu,  # its default slope is LEAKY_SLOPE
        "identity": lambda x: x,
    }
)

GAINS: Mapping[str, float] = MappingProxyType(
    {
        "relu": 2.0**0.5,
        "gelu": 2.0**0.5,
        "silu": 2.0**0.5,
        "tanh": 5.0 / 3.0,
        "leaky_relu": (2.0 / (1.0 + LEAKY_SLOPE**2)) ** 0.5,
        "identity": 1.0,
    }
)
"""As `torch.nn.init.calculate_gain`, which has none for gelu and silu: they take that of relu."""
