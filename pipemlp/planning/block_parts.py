"""What a block's description is made of: parameters, and what autograd keeps for each kind of operation.

What is kept follows PyTorch's derivative formulas (tools/autograd/derivatives.yaml): a product keeps
its input, a norm its input and per-row statistics, an activation its input or its result, dropout its mask.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from pipemlp.config.section import Named

STATISTICS_BYTES_PER_ROW: Mapping[str, int] = MappingProxyType({"none": 0, "layer": 8, "rms": 4})
"""Bytes of float32 statistics a norm keeps per row: mean and reciprocal deviation, or the latter alone."""

KEPT_BY_ACTIVATION: Mapping[str, str] = MappingProxyType(
    {"relu": "result", "tanh": "result", "gelu": "input", "silu": "input", "leaky_relu": "input", "identity": "nothing"}
)
"""What an activation keeps for its backward: its `input`, its `result` or `nothing`."""


@dataclass(frozen=True)
class Parameter:
    """One trainable tensor of a layer, named as in the module's `named_parameters()`."""

    name: str
    shape: tuple[int, ...]


@dataclass(frozen=True)
class BlockSetting:
    """One hidden layer as configured: what the description of its block is computed from.

    Args:
        input_width: values per row that enter.
        output_width: values per row that leave.
        activation, norm, dropout: as configured for this layer; a block may ignore them.
        options: the block's own options.
    """

    input_width: int
    output_width: int
    activation: str
    norm: str
    dropout: float
    options: Named


@dataclass(frozen=True)
class BlockCost:
    """What one block holds, computes and keeps; the fields of the same names are those of `LayerDescription`.

    Args:
        parameters: every trainable tensor, in the order of the module's `named_parameters()`.
        forward_flops_per_row: floating-point operations of the matrix products, two per multiply-add.
        kept_values_per_row: values in the compute precision kept for the backward, without parameters
            and without the block's output.
        kept_bytes_per_row: bytes kept besides: statistics, masks, indices.
        has_skip: whether the input is added to the output, so that the output is not normalised.
        product_values_per_row: values of the results of all products (`SplitLinear`): what `recompute:
            elementwise` keeps.
        pending_values_per_row: values of the inputs of all products and of the gradients of their results, each
            tensor once: what waits for a `W`.
        input_is_pending: whether the block's input itself is among them.
        keeps_output: whether the block's own output is kept for its backward.
    """

    parameters: tuple[Parameter, ...]
    forward_flops_per_row: int
    kept_values_per_row: int
    kept_bytes_per_row: int
    has_skip: bool = False
    product_values_per_row: int = 0
    pending_values_per_row: int = 0
    input_is_pending: bool = False
    keeps_output: bool = False


def linear_parameters(name: str, input_width: int, output_width: int, *, bias: bool = True) -> tuple[Parameter, ...]:
    """The parameters of a linear layer called `name`: weight [output_width, input_width], bias [output_width]."""
    weight = Parameter(f"{name}.weight", (output_width, input_width))
    return (weight, Parameter(f"{name}.bias", (output_width,))) if bias else (weight,)


def norm_parameters(name: str, norm: str, width: int) -> tuple[Parameter, ...]:
    """The parameters of a norm called `name` over `width` values: none, a weight (rms), a weight and a bias (layer)."""
    leaves = {"none": (), "rms": ("weight",), "layer": ("weight", "bias")}[norm]
    return tuple(Parameter(f"{name}.{leaf}", (width,)) for leaf in leaves)


def product_flops(input_width: int, output_width: int) -> int:
    """Floating-point operations per row of a linear layer, two per multiply-add, without its bias."""
    return 2 * input_width * output_width
