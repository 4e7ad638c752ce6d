"""What costs and plans hold for, by name, in words that can be compared: model, precision, optimizer, and so on."""

import hashlib
from collections.abc import Sequence
from dataclasses import replace

from pipemlp.config.root import RunConfig
from pipemlp.planning.exchange import Exchange
from pipemlp.planning.layers import LayerDescription
from pipemlp.planning.workload import workload_of


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
    workload = workload_of(config, tuple(layers))
    return {
        "model": model_fact(layers),
        "loss": config.chosen_loss.name,
        "precision": config.precision,
        "optimizer": workload.optimizer + (" with weight decay" if workload.weight_decay else ""),
        "clipping": "off" if config.training.clip_norm is None else "on",
    }


def plan_facts(config: RunConfig, layers: Sequence[LayerDescription]) -> dict[str, str]:
    """What a plan of this configuration depends on."""
    workload = workload_of(config, tuple(layers))
    return workload_facts(config, layers) | {
        "batch": str(workload.global_batch_rows),
        "gradients": _exchange_words(workload.exchange),
    }


def _exchange_words(exchange: Exchange) -> str:
    """`ring, local every 32 steps with momentum, topk (ratio 0.01, error feedback)`."""
    words = [exchange.pattern, exchange.update, exchange.compression]
    if exchange.update == "local":
        words[1] += f" every {exchange.steps} steps" + (" with momentum" if exchange.has_momentum else "")
    if exchange.compression != "none":
        options = exchange.settings.model_dump(exclude={"name", "error_feedback", "warmup_steps"}).items()
        parts = [f"{name} {value:g}" for name, value in options] + ["error feedback"] * exchange.keeps_residual
        words[2] += f" ({', '.join(parts)})" if parts else ""
    return ", ".join(words)
