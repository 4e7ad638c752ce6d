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
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from pipemlp.config.gradients import (
    Asynchronous,
    CompressionConfig,
    GradientsConfig,
    Local,
    Lossy,
    NoCompression,
    OneBitCompression,
    PowerSgdCompression,
    TopKCompression,
)
from pipemlp.planning.layers import LayerDescription
from pipemlp.planning.machine import Network
from pipemlp.planning.sums import (
    BUCKET_BYTES,
    COMPRESSED_BUCKET_BYTES,
    DIRECT_SEGMENTS,
    RING_SEGMENTS,
    SUM_BYTES,
    TREE_SEGMENTS,
)

SMALL_VALUES = 1024
"""Tensors with fewer values, and vectors, are sent as they are: their bytes are too few to lose anything for."""
BLOCK_VALUES = 256
"""Of int8 messages, each with a scale of 4 bytes: 1.6 % of it; larger blocks lose more of small values."""
INT8_SHARE = 1 / 4 + 1 / BLOCK_VALUES
Shape = tuple[int, ...]


@dataclass(frozen=True)
class Exchange:
    """How replicas exchange, as far as it costs something.

    Args:
        pattern, update: by name.
        settings: of the compression.
        steps: optimizer steps for one exchange.
        has_momentum: whether the outer step of local updates has some.
        shapes: of all that is exchanged, each with how many have it.
    """

    pattern: str = "backend"
    update: str = "synchronous"
    settings: CompressionConfig = NoCompression()
    steps: int = 1
    has_momentum: bool = False
    shapes: tuple[tuple[Shape, int], ...] = field(default=(), compare=False)

    @property
    def compression(self) -> str:
        """By name."""
        return self.settings.name

    @property
    def keeps_residual(self) -> bool:
        """Whether what compressed messages leave out is kept."""
        return isinstance(self.settings, Lossy) and self.settings.error_feedback

    @property
    def bucket_bytes(self) -> int:
        """Of gradients that are exchanged at once."""
        return COMPRESSED_BUCKET_BYTES if self.update == "synchronous" and self.compression != "none" else BUCKET_BYTES

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

    def share(self, num_replicas: int) -> float:
        """Bytes sent for one byte of gradients: large tensors compressed, small ones as they are.

        The mean of the way there and the way back, as patterns send as much on both; with a parameter server of the
        push alone.
        """
        if self.compression == "none":
            return 1.0
        total = sum(math.prod(shape) * count for shape, count in self.shapes)
        bucket_values = min(total, self.bucket_bytes // SUM_BYTES)
        sent = 0.0
        for shape, count in self.shapes:
            size = math.prod(shape)
            cuts = (num_replicas - 1) * size / max(size, bucket_values, 1)
            sent += count * size * (self._share_of(shape, num_replicas, cuts) if is_large(shape) else 1.0)
        return sent / total if total else 1.0

    def _share_of(self, shape: Shape, num_replicas: int, cuts: float) -> float:
        """Of a large tensor, through which so many borders between parts of its bucket go."""
        match self.settings:
            case TopKCompression(ratio=ratio):  # a place and a value, 8 bytes for 4; half of the values or more: all
                push = min(1.0, 2 * ratio)
                return push if self.serves else (push + min(1.0, 2 * ratio * num_replicas)) / 2  # all that may differ
            case PowerSgdCompression(rank=rank):  # servers too need the factors of all, there and back
                rows, columns = shape[0], math.prod(shape[1:])
                return min(1.0, rank * (rows + columns) / (rows * columns)) * (2 if self.serves else 1)
            case OneBitCompression():
                # a bit for each value; magnitudes for each row, and in every piece for each column; a row that a
                # border cuts is sent as int8
                rows, columns = shape[0], math.prod(shape[1:])
                besides = rows + (1 + cuts) * columns + cuts * columns * INT8_SHARE
                return min(INT8_SHARE, 1 / 32 + besides / (rows * columns))
        return {"bf16": 0.5, "int8": INT8_SHARE}[self.compression]

    def seconds(self, network: Network, num_bytes: float, num_replicas: int) -> float:
        """Of a step, for gradients of so many bytes, hidden or not."""
        if num_replicas == 1 or num_bytes == 0:
            return 0.0
        share = self.share(num_replicas)
        if self.serves:  # gradients there in fewer bytes, parameters back in all of theirs
            return pattern_seconds(network, self.pattern, num_bytes * (1 + share) / 2, num_replicas)
        return pattern_seconds(network, self.pattern, num_bytes * share, num_replicas) / self.steps

    def pull_seconds(self, network: Network, num_bytes: float, num_replicas: int) -> float:
        """Of those, what can only begin when the servers have updated: nothing hides it."""
        if not self.serves:
            return 0.0
        return self.seconds(network, num_bytes, num_replicas) / (1 + self.share(num_replicas))

    def memory_bytes(self, num_parameters: int, num_replicas: int) -> int:
        """What a rank keeps for it, beside parameters, sums and optimizer."""
        if num_replicas == 1 or self.is_plain:
            return 0
        values = SUM_BYTES * num_parameters
        kept = values if self.keeps_residual else 0
        if self.update == "local":  # the common weights, their change, and momentum
            return kept + (3 if self.has_momentum else 2) * values + self._room_bytes(values, num_replicas)
        if self.update == "asynchronous":  # to and from all servers; to this one, and one or two of its answers
            return kept + 2 * values + 3 * values // (2 * num_replicas)
        if self.serves:  # what was pushed to this server
            return kept + values // num_replicas
        if self.compression in ("int8", "topk", "onebit"):  # what the messages of sums leave out
            return kept + kept // num_replicas
        return kept + self._room_bytes(values, num_replicas)

    def _room_bytes(self, num_bytes: int, num_replicas: int) -> int:
        """Where messages of the pattern arrive before they are added, which is kept from one bucket to the next."""
        bucket = min(num_bytes, self.bucket_bytes) * self.share(num_replicas)
        part = bucket / num_replicas
        match self.pattern:
            case "ring":
                num_segments = RING_SEGMENTS.num_of(part)
                num_ahead = min(RING_SEGMENTS.num_ahead, (num_replicas - 1) * num_segments)
                return round(num_ahead * part / num_segments)
            case "tree":  # at the top, with the most children
                num_ahead = TREE_SEGMENTS.num_ahead * math.ceil(math.log2(num_replicas))
                return round(num_ahead * bucket / TREE_SEGMENTS.num_of(bucket))
            case "fully-connected":
                num_segments = DIRECT_SEGMENTS.num_of(part)
                return round(min(DIRECT_SEGMENTS.num_ahead, num_segments) * bucket / num_segments)
        return 0


def exchange_of(config: GradientsConfig, layers: Iterable[LayerDescription]) -> Exchange:
    """The exchange of a configuration."""
    update = config.update
    shapes = Counter(tuple(parameter.shape) for layer in layers for parameter in layer.parameters)
    return Exchange(
        pattern=config.pattern,
        update="synchronous" if isinstance(update, Asynchronous) and not config.is_asynchronous else update.name,
        settings=config.compression,
        steps=update.local_steps if isinstance(update, Local) else 1,
        has_momentum=isinstance(update, Local) and update.outer_momentum > 0,
        shapes=tuple(shapes.items()),
    )


def is_large(shape: Sequence[int]) -> bool:
    """Whether a tensor of this shape is compressed; vectors are not, such as biases and the scales of norms."""
    return len(shape) > 1 and math.prod(shape) >= SMALL_VALUES


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
