"""The plain block: dropout(activation(norm(linear(x))))."""

from torch import Tensor, nn

from pipemlp.model.activations import ACTIVATIONS
from pipemlp.model.dropout import Dropout, DropoutKey
from pipemlp.model.norms import build_norm
from pipemlp.model.weight_gradients import SplitLinear
from pipemlp.planning.layers import LayerDescription


class PlainBlock(nn.Module):
    """Linear, norm, activation, dropout, one after the other."""

    activated = ("linear",)

    def __init__(self, layer: LayerDescription) -> None:
        super().__init__()
        self.linear = SplitLinear(layer.input_width, layer.output_width)
        self.norm = build_norm(layer.norm, layer.output_width)
        self.activation = ACTIVATIONS[layer.activation]
        self.dropout = Dropout(layer.dropout, layer.index)

    def forward(self, x: Tensor, dropout_key: DropoutKey | None = None) -> Tensor:
        """x [n, input_width] -> [n, output_width]."""
        return self.dropout(self.activation(self.norm(self.linear(x))), dropout_key)
