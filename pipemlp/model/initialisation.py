"""The first value of every parameter: a function of the seed, the layer's index and its description."""

import hashlib
import math

import torch
from torch import Tensor, nn

from pipemlp.model.activations import GAINS
from pipemlp.planning.layers import LayerDescription


def layer_generator(seed: int, index: int) -> torch.Generator:
    """A CPU generator for the layer at `index`, independent of every other layer's."""
    digest = hashlib.sha256(f"{seed}:{index}".encode()).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest[:8]) >> 1)


def draw_parameter(
    name: str, shape: torch.Size, layer: LayerDescription, activated: tuple[str, ...], generator: torch.Generator
) -> Tensor:
    """A parameter's first value, float32 on the CPU.

    Embeddings are standard normal; matrices follow `layer.init`; biases are zero, other vectors (the
    weights of norms) one.

    Args:
        name: in the module, such as `linear.weight`.
        activated: the submodules whose output passes the activation, next or after a norm.
    """
    if layer.kind == "input":
        embedding = torch.empty(shape).normal_(generator=generator)
        embedding[0] = 0.0  # unknown values, which no training row may have: then what the others are on average
        return embedding
    owner, _, leaf = name.rpartition(".")
    if len(shape) < 2:
        return torch.zeros(shape) if leaf == "bias" else torch.ones(shape)
    gain = GAINS[layer.activation] if owner in activated else 1.0
    return _draw_matrix(torch.empty(shape), layer.init, gain, generator)


def _draw_matrix(weight: Tensor, init: str, gain: float, generator: torch.Generator) -> Tensor:
    """Fill a weight [out, in, ...]; the gain applies to kaiming_* only.

    Kaiming: He et al., 2015; Xavier: Glorot and Bengio, 2010; LeCun: LeCun et al., 1998; orthogonal:
    Saxe et al., 2013.
    """
    fan_out, fan_in = weight.shape[0], math.prod(weight.shape[1:])
    match init:
        case "kaiming_normal":
            return weight.normal_(0.0, gain / math.sqrt(fan_in), generator=generator)
        case "kaiming_uniform":
            bound = gain * math.sqrt(3.0 / fan_in)
            return weight.uniform_(-bound, bound, generator=generator)
        case "xavier_normal":
            return weight.normal_(0.0, math.sqrt(2.0 / (fan_in + fan_out)), generator=generator)
        case "xavier_uniform":
            bound = math.sqrt(6.0 / (fan_in + fan_out))
            return weight.uniform_(-bound, bound, generator=generator)
        case "lecun_normal":
            return weight.normal_(0.0, 1.0 / math.sqrt(fan_in), generator=generator)
        case "orthogonal":
            return nn.init.orthogonal_(weight, generator=generator)
    raise ValueError(f"unknown init {init!r}")
