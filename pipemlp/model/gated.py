"""The gated block: skip(x) + dropout(down(activation(gate(norm(x))) * up(norm(x))))."""

from typing import Any

from torch import Tensor, nn

from pipemlp.model.activations import ACTIVATIONS
from pipemlp.model.dropout import Dropout, DropoutKey
from pipemlp.model.norms import build_norm
from pipemlp.model.residual import build_skip
from pipemlp.model.weight_gradients import SplitLinear
from pipemlp.planning.block_costs import gated_inner_width
from pipemlp.planning.layers import LayerDescription


class GatedBlock(nn.Module):
    """Gated linear unit (Shazeer, 2020, https://arxiv.org/abs/2002.05202): SwiGLU with silu, GEGLU with gelu."""

    activated = ("gate",)

    def __init__(self, layer: LayerDescription) -> None:
        super().__init__()
        options: dict[str, Any] = dict(layer.options)
        inner = gated_inner_width(options["expansion"], layer.output_width)
        self.norm = build_norm(layer.norm, layer.input_width)
        self.gate = SplitLinear(layer.input_width, inner)
        self.up = SplitLinear(layer.input_width, inner)
        self.down = SplitLinear(inner, layer.output_width)
        self.activation = ACTIVATIONS[layer.activation]
        self.dropout = Dropout(layer.dropout, layer.index)
        self.skip = build_skip(layer)

    def forward(self, x: Tensor, dropout_key: DropoutKey | None = None) -> Tensor:
        """x [n, input_width] -> [n, output_width]."""
        normed = self.norm(x)
        product = self.activation(self.gate(normed)) * self.up(normed)
        return self.skip(x) + self.dropout(self.down(product), dropout_key)
