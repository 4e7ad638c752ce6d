"""Layer 0: numeric columns and the embeddings of categorical ones, side by side."""

from typing import Any

import torch
from torch import Tensor, nn

from pipemlp.model.dropout import DropoutKey
from pipemlp.model.weight_gradients import SplitEmbedding
from pipemlp.planning.layers import LayerDescription


class InputLayer(nn.Module):
    """Concatenates numeric columns with one embedding per categorical column; only embeddings are trained."""

    compute_type: Tensor

    def __init__(self, layer: LayerDescription) -> None:
        super().__init__()
        options: dict[str, Any] = dict(layer.options)
        sizes = zip(options["cardinalities"], options["embedding_widths"], strict=True)
        self.embeddings = nn.ModuleList(SplitEmbedding(codes, width) for codes, width in sizes)
        self.has_numeric = layer.input_width > 0
        # Follows .to(dtype) also where there is no embedding; holds no value.
        self.register_buffer("compute_type", torch.empty(0), persistent=False)

    def forward(self, x: tuple[Tensor, Tensor], dropout_key: DropoutKey | None = None) -> Tensor:
        """(numeric float [n, F], categorical int64 [n, C]) -> [n, output_width] in the layer's type."""
        numeric, categorical = x
        parts = [numeric.to(self.compute_type.dtype)] if self.has_numeric else []
        parts += [embedding(categorical[:, k]) for k, embedding in enumerate(self.embeddings)]
        return parts[0] if len(parts) == 1 else torch.cat(parts, dim=1)
