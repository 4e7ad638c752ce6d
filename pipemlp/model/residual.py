"""The residual block: skip(x) + dropout(activation(linear(norm(x))))."""

from torch import Tensor, nn

from pipemlp.model.activations import ACTIVATIONS
from pipemlp.model.dropout import Dropout, DropoutKey
from pipemlp.model.norms import build_norm
from pipemlp.model.weight_gradients import SplitLinear
from pipemlp.planning.layers import LayerDescription


def build_skip(layer: LayerDescription) -> nn.Module:
    """The identity, or where widths change a projection without bias."""
    if layer.input_width == layer.output_width:
        return nn.Identity()
    return SplitLinear(layer.input_width, layer.output_width, bias=False)


class ResidualBlock(nn.Module):
    """Pre-norm residual layer (He et al., 2016, https://arxiv.org/abs/1603.05027)."""

    activated = ("linear",)

    def __init__(self, layer: LayerDescription) -> None:
        super().__init__()
        self.norm = build_norm(layer.norm, layer.input_width)
        self.linear = SplitLinear(layer.input_width, layer.output_width)
        self.activation = ACTIVATIONS[layer.activation]
        self.dropout = Dropout(layer.dropout, layer.index)
        self.skip = build_skip(layer)

    def forward(self, x: Tensor, dropout_key: DropoutKey | None = None) -> Tensor:
        """x [n, input_width] -> [n, output_width]."""
        return self.skip(x) + self.dropout(self.activation(self.linear(self.norm(x))), dropout_key)
