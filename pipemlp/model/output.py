"""The output head: a linear layer, normalised first where the last hidden block has a skip."""

from torch import Tensor, nn

from pipemlp.model.dropout import DropoutKey
from pipemlp.model.norms import build_norm
from pipemlp.model.weight_gradients import SplitLinear
from pipemlp.planning.layers import LayerDescription


class OutputHead(nn.Module):
    """linear(norm(x)): logits, or standardised targets."""

    def __init__(self, layer: LayerDescription) -> None:
        super().__init__()
        self.norm = build_norm(layer.norm, layer.input_width)
        self.linear = SplitLinear(layer.input_width, layer.output_width)

    def forward(self, x: Tensor, dropout_key: DropoutKey | None = None) -> Tensor:
        """x [n, input_width] -> [n, output_width]."""
        return self.linear(self.norm(x))
