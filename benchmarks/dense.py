"""Models that compute: our layers by their descriptions, and the same as torch's users write them."""

from dataclasses import dataclass

import torch
from ours_schedules import SEED, hidden_layers
from torch import Tensor, nn
from workload import Workload

from pipemlp.model.build import build_layer
from pipemlp.planning.layers import LayerDescription


@dataclass(frozen=True)
class Dense:
    """Equal hidden layers.

    Args:
        width, depth: of the model.
        block: `plain` or `gated`.
        activation, norm: as in a configuration.
    """

    width: int
    depth: int
    block: str = "plain"
    activation: str = "relu"
    norm: str = "none"


class PlainTorch(nn.Module):
    """Linear, norm, activation."""

    def __init__(self, layer: LayerDescription) -> None:
        super().__init__()
        self.linear = nn.Linear(layer.input_width, layer.output_width)
        self.norm = _norm(layer)
        self.activation = _activation(layer)

    def forward(self, x: Tensor) -> Tensor:
        """x [n, input_width] -> [n, output_width]."""
        result: Tensor = self.activation(self.norm(self.linear(x)))
        return result


class GatedTorch(nn.Module):
    """x + down(activation(gate(norm(x))) * up(norm(x)))."""

    def __init__(self, layer: LayerDescription) -> None:
        super().__init__()
        inner = layer.parameters[-2].shape[1]
        self.norm = _norm(layer)
        self.gate = nn.Linear(layer.input_width, inner)
        self.up = nn.Linear(layer.input_width, inner)
        self.down = nn.Linear(inner, layer.output_width)
        self.activation = _activation(layer)

    def forward(self, x: Tensor) -> Tensor:
        """x [n, width] -> [n, width]."""
        normed = self.norm(x)
        result: Tensor = x + self.down(self.activation(self.gate(normed)) * self.up(normed))
        return result


def _norm(layer: LayerDescription) -> nn.Module:
    return nn.LayerNorm(layer.output_width) if layer.norm == "layer" else nn.Identity()


def _activation(layer: LayerDescription) -> nn.Module:
    return {"relu": nn.ReLU, "gelu": nn.GELU, "silu": nn.SiLU}[layer.activation]()


def torch_layer(layer: LayerDescription, device: torch.device, dtype: torch.dtype) -> nn.Module:
    """The layer as torch's users write it, with the weights that ours starts from."""
    module = (PlainTorch if layer.kind == "plain" else GatedTorch)(layer)
    module.load_state_dict(build_layer(layer, SEED).state_dict())
    return module.to(device, dtype)


def dense_workload(
    dense: Dense,
    num_stages: int,
    num_micro_batches: int,
    rows: int,
    device: torch.device = torch.device("cpu"),  # noqa: B008
    bf16: bool = False,
) -> Workload:
    """Random rows through the model, squared errors against random targets."""
    model = {
        "hidden": {"width": dense.width, "depth": dense.depth},
        "block": dense.block,
        "activation": dense.activation,
        "norm": dense.norm,
    }
    descriptions = hidden_layers(model, dense.width)
    dtype = torch.bfloat16 if bf16 else torch.float32
    generator = torch.Generator().manual_seed(SEED)
    inputs, target = torch.randn(2, num_micro_batches * rows, dense.width, generator=generator)
    return Workload(
        num_stages=num_stages,
        num_micro_batches=num_micro_batches,
        descriptions=descriptions,
        layers=lambda index: torch_layer(descriptions[index], device, dtype),
        loss=squared_error,
        inputs=inputs.to(device, dtype),
        target=target.to(device),
        bf16=bf16,
    )


def squared_error(outputs: Tensor, target: Tensor) -> Tensor:
    """The mean of squares, in float32; `mse_loss` on CPU returns a scalar that holds memory for all of them."""
    return (outputs.float() - target).square().mean()
