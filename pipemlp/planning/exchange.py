"""What exchanging gradients costs: seconds by the alpha-beta model, bytes that are sent, memory that is kept.

    n replicas, B bytes     turns              bytes on a link, one after the other
    ring                    2 (n - 1)          2 B (n - 1) / n
    tree                    2 ceil(log2 n)     2 B ceil(log2 n)
    fully-connected         2                  2 B (n - 1) / n, to all at once
    parameter-server        2                  the same: gradients there, parameters back

    seconds = turns x alpha + bytes x beta        (Hockney 1994; Thakur, Rabenseifner and Gropp 2005)

Where a profile has measured a pattern, alpha and beta are what its measurement comes to. What encoding and decoding a
compressed message takes is not modelled.
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from pipemlp.config.gradients import (
    Asynchronous,
    GradientsConfig,
    Local,
    Lossy,
    OneBitCompression,
    PowerSgdCompression,
    TopKCompression,
)
from pipemlp.planning.layers import LayerDescription
from pipemlp.planning.machine import Network
from pipemlp.planning.sums import BUCKET_BYTES

SMALL_VALUES = 1024
"""Tensors with fewer values, and vectors, are sent as they are: their bytes are too few to lose anything for."""
RING_AHEAD = 4
"""Parts of a bucket that a ring is ready to receive."""
BLOCK_VALUES = 256
"""Of int8 messages, each with a scale of 4 bytes: 1.6 % of it; larger blocks lose more of small values."""


@dataclass(frozen=True)
class Exchange:
    """How replicas exchange, as far as it costs something.

    Args:
        pattern, update, compression: by name.
        share: bytes sent for one byte of gradients with the compression; 1 without.
        steps: optimizer steps for one exchange.
        keeps_residual: whether what compressed messages leave out is kept.
        has_momentum: whether the outer step of local updates has some.
    """

    pattern: str = "backend"
    update: str = "synchronous"
    compression: str = "none"
    share: float = 1.0
    steps: int = 1
    keeps_residual: bool = False
    has_momentum: bool = False

    @property
    def is_plain(self) -> bool:
        """Whether it is the backend's own all-reduce, in every step."""
        return self == Exchange()

    @property
    def serves(self) -> bool:
        """Whether each replica serves a part of the parameters, with its part of the optimizer."""
        return self.pattern == "parameter-server"

    @property
    def allows_zero_1(self) -> bool:
        """Whether DeepSpeed may shard the optimizer."""
        return self.update == "synchronous" and not self.serves and self.compression == "none"

    def seconds(self, network: Network, num_bytes: float, num_replicas: int) -> float:
        """Of a step, for gradients of so many bytes, hidden or not."""
        if num_replicas == 1 or num_bytes == 0:
            return 0.0
        if self.serves:  # gradients there in fewer bytes, parameters back in all of theirs
            return pattern_seconds(network, self.pattern, num_bytes * (1 + self.share) / 2, num_replicas)
        return pattern_seconds(network, self.pattern, num_bytes * self.share, num_replicas) / self.steps

    def memory_bytes(self, num_parameters: int, num_replicas: int) -> int:
        """What a rank keeps for it, beside parameters, sums and optimizer."""
        if num_replicas == 1 or self.is_plain:
            return 0
        values = 4 * num_parameters
        kept = values if self.keeps_residual else 0
        if self.update == "local":  # the common weights, their change, and momentum
            return kept + (3 if self.has_momentum else 2) * values
        if self.update == "asynchronous":  # to and from all servers; to this one, and one or two of its answers
            return kept + 2 * values + 3 * values // (2 * num_replicas)
        if self.serves:  # what was pushed to this server
            return kept + values // num_replicas
        if self.compression in ("int8", "topk", "onebit"):  # what the messages of sums leave out
            return kept + kept // num_replicas
        if self.compression == "powersgd" or self.pattern in ("backend", "fully-connected"):
            return kept
        arriving = min(RING_AHEAD, num_replicas - 1) / num_replicas if self.pattern == "ring" else 1
        return kept + round(min(values, BUCKET_BYTES) * arriving)


def exchange_of(config: GradientsConfig, layers: Iterable[LayerDescription]) -> Exchange:
    """The exchange of a configuration."""
    update, compression = config.update, config.compression
    return Exchange(
        pattern=config.pattern,
        update="synchronous" if isinstance(update, Asynchronous) and not config.is_asynchronous else update.name,
        compression=compression.name,
        share=sent_share(config, layers),
        steps=update.local_steps if isinstance(update, Local) else 1,
        keeps_residual=isinstance(compression, Lossy) and compression.error_feedback,
        has_momentum=isinstance(update, Local) and update.outer_momentum > 0,
    )


def is_large(shape: Sequence[int]) -> bool:
    """Whether a tensor of this shape is compressed; vectors are not, such as biases and the scales of norms."""
    return len(shape) > 1 and math.prod(shape) >= SMALL_VALUES


def sent_share(config: GradientsConfig, layers: Iterable[LayerDescription]) -> float:
    """Bytes sent for one byte of gradients: large tensors compressed, small ones as they are."""
    sent = plain = 0.0
    for shape in (parameter.shape for layer in layers for parameter in layer.parameters):
        size = math.prod(shape)
        plain += size
        sent += size * (_share_of(config, shape) if is_large(shape) else 1.0)
    return sent / plain if plain else 1.0


def _share_of(config: GradientsConfig, shape: tuple[int, ...]) -> float:
    compression = config.compression
    match compression:
        case TopKCompression():  # a place and a value, 8 bytes for 4; the sum has up to n times as many: 2 replicas
            return min(1.0, 2 * compression.ratio * (1 if config.pattern == "parameter-server" else 1.5))
        case PowerSgdCompression():
            rows, columns = shape[0], math.prod(shape[1:])
            return min(1.0, compression.rank * (rows + columns) / (rows * columns))
        case OneBitCompression():  # a bit for each value, a magnitude for each row and column
            rows, columns = shape[0], math.prod(shape[1:])
            return min(1 / 4, 1 / 32 + (rows + columns) / (rows * columns))
    return {"none": 1.0, "bf16": 0.5, "int8": 1 / 4 + 1 / BLOCK_VALUES}[compression.name]


def turns_of(pattern: str, num_replicas: int) -> int:
    """Messages that wait for each other."""
    if pattern == "tree":
        return 2 * math.ceil(math.log2(num_replicas))
    return 2 if pattern in ("fully-connected", "parameter-server") else 2 * (num_replicas - 1)


def sent_times(pattern: str, num_replicas: int) -> float:
    """Bytes that go over a replica's link one after the other, for every byte that is summed."""
    if pattern == "tree":
        return 2.0 * math.ceil(math.log2(num_replicas))
    return 2 * (num_replicas - 1) / num_replicas


def pattern_seconds(network: Network, pattern: str, num_bytes: float, num_replicas: int) -> float:
    """The sum over the replicas of so many bytes on every one."""
    if num_replicas == 1 or num_bytes == 0:
        return 0.0
    if pattern == "backend":
        return network.all_reduce_seconds(num_bytes, num_replicas)
    measured = network.pattern("fully-connected" if pattern == "parameter-server" else pattern)
    if measured is not None and measured.num_replicas == num_replicas:
        return measured.seconds.at(num_bytes)
    alpha, beta = alpha_beta(network)
    return turns_of(pattern, num_replicas) * alpha + sent_times(pattern, num_replicas) * num_bytes * beta


def alpha_beta(network: Network) -> tuple[float, float]:
    """Seconds of a message of nothing, and seconds per byte, of the network's reductions."""
    curve = network.reduction
    large = curve.sizes[-1]
    beta = curve.at(large) / large if len(curve.sizes) == 1 else (curve.at(large) - curve.at(large / 2)) / (large / 2)
    return max(network.turn_seconds, network.message.at(0)), max(beta, 0.0)


def bus_bandwidth(num_bytes: float, num_replicas: int, seconds: float) -> float:
    """Bytes per second on each link if the sum were a ring's: comparable over patterns and replicas (NCCL's tests)."""
    return sent_times("ring", num_replicas) * num_bytes / seconds
