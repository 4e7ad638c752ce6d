"""The whole model in one process: a plain torch module, for the one-process reference and for finished models."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from pipemlp.model.build import build_layer
from pipemlp.model.dropout import DropoutKey
from pipemlp.planning.layers import LayerDescription


class WholeModel(nn.Sequential):
    """All layers in order; parameter names are `INDEX.NAME`, such as `3.linear.weight`."""

    def forward(
        self, numeric: Tensor, categorical: Tensor | None = None, dropout_key: DropoutKey | None = None
    ) -> Tensor:
        """Numeric float [n, F] and categorical int64 [n, C] -> outputs [n, output_width].

        `categorical` may be left out where there is none. Dropout acts in training mode with a key only.
        """
        if categorical is None:
            categorical = torch.empty(numeric.shape[0], 0, dtype=torch.int64, device=numeric.device)
        first, *rest = self
        x = first((numeric, categorical), dropout_key)
        for layer in rest:
            x = layer(x, dropout_key)
        return x


def build_model(
    layers: Sequence[LayerDescription],
    seed: int,
    device: torch.device | str = "cpu",
    dtype: torch.dtype = torch.float32,
) -> WholeModel:
    """Build every layer with `build_layer`, in one process."""
    return WholeModel(*(build_layer(layer, seed, device, dtype) for layer in layers))
