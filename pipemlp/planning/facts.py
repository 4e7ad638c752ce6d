"""What costs and plans hold for, by name, in words that can be compared: model, precision, optimizer, loss."""

import hashlib
from collections.abc import Sequence
from dataclasses import replace

from pipemlp.config.root import RunConfig
from pipemlp.planning.layers import LayerDescription


def model_fact(layers: Sequence[LayerDescription]) -> str:
    """The layers in short, with a hash of all that is in their descriptions but initial values."""
    widths = [layers[0].output_width, *(layer.output_width for layer in layers[1:])]
    hidden = layers[1:-1]
    kinds = ", ".join(dict.fromkeys(layer.kind for layer in hidden)) or "no"
    described = repr([replace(layer, init="") for layer in layers])
    digest = hashlib.blake2b(described.encode(), digest_size=4).hexdigest()
    narrowest, widest = min(widths), max(widths)
    across = f"{narrowest}" if narrowest == widest else f"{narrowest} to {widest}"
    return f"{len(layers)} layers ({kinds}; {across} wide; {digest})"


def workload_facts(config: RunConfig, layers: Sequence[LayerDescription]) -> dict[str, str]:
    """What a profile of this configuration depends on."""
    return {
        "model": model_fact(layers),
        "loss": config.chosen_loss.name,
        "precision": config.precision,
        "optimizer": config.optimizer.name,
    }
