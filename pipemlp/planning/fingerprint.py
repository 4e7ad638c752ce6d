"""A model in 64 digits, to tell whether it is the one that was saved."""

import hashlib
import json
from collections.abc import Sequence

from pipemlp.planning.layers import LayerDescription


def fingerprint_of(layers: Sequence[LayerDescription]) -> str:
    """Of a model: other blocks, widths, options or parameters have another, whatever they are called in the
    configuration."""
    told = [
        (
            *(layer.kind, layer.input_width, layer.output_width, layer.activation, layer.norm, layer.dropout),
            *(layer.options, [(parameter.name, parameter.shape) for parameter in layer.parameters]),
        )
        for layer in layers
    ]
    return hashlib.sha256(json.dumps(told).encode()).hexdigest()
