"""What several updates need: sums of buckets by our patterns, buckets of a flat vector, DeepSpeed's step."""

from collections.abc import Sequence
from typing import Protocol

from deepspeed.runtime.pipe.engine import PipelineEngine
from torch import Tensor, nn

from pipemlp.config.gradients import GradientsConfig
from pipemlp.engine.gradient_sums import GradientSums
from pipemlp.engine.private.build_engine import take_step
from pipemlp.engine.private.gradient_home import hand_over
from pipemlp.engine.votes import Votes
from pipemlp.gradients.bucket import Bucket, bucketed
from pipemlp.gradients.compression.compression import Compression
from pipemlp.gradients.compression.making import make_compression
from pipemlp.gradients.compression.sender import nested
from pipemlp.gradients.exchange import ThreadedExchange
from pipemlp.gradients.links import Links
from pipemlp.gradients.meter import Meter
from pipemlp.gradients.pattern import make_pattern
from pipemlp.planning.sums import BUCKET_BYTES


class HasState(Protocol):
    """Something with tensors that a checkpoint keeps."""

    def state(self) -> dict[str, Tensor]:
        """Live tensors by name."""


def pattern_exchange(
    config: GradientsConfig, buckets: Sequence[Bucket], links: Links, meter: Meter
) -> tuple[ThreadedExchange, list[Compression]]:
    """Sums of buckets by the pattern and compression of a configuration, by a thread; and the compressions."""
    pattern = make_pattern(config.pattern, links)
    sums = [make_compression(config.compression, pattern, links, shapes_of(bucket)) for bucket in buckets]

    def exchange(index: int) -> None:
        sums[index].sum(buckets[index].views)

    return ThreadedExchange(exchange, buckets, lambda: links.bytes_sent, meter), sums


def state_of(parts: Sequence[HasState], name: str) -> dict[str, Tensor]:
    """The states of several, such as one for each bucket, under `name` and their number."""
    return nested({f"{name}.{index}": part.state() for index, part in enumerate(parts)})


def shapes_of(bucket: Bucket) -> list[tuple[int, ...]]:
    """Of its tensors."""
    return [tuple(view.shape) for view in bucket.views]


def in_buckets(flat: Tensor, parameters: Sequence[nn.Parameter], bucket_bytes: int = BUCKET_BYTES) -> list[Bucket]:
    """A vector with a value for every parameter, in buckets of so many bytes at most, or of a single parameter."""
    found, start = [], 0
    for members in bucketed(parameters, flat.element_size(), bucket_bytes):
        first, views = start, []
        for parameter in members:
            views.append(flat[start : start + parameter.numel()].view(parameter.shape))
            start += parameter.numel()
        found.append(Bucket(flat[first:start], tuple(views)))
    return found


def by_bucket(parameters: Sequence[nn.Parameter], buckets: Sequence[Bucket]) -> list[list[nn.Parameter]]:
    """The parameters of each bucket, whose views are in the same order."""
    found, start = [], 0
    for bucket in buckets:
        found.append(list(parameters[start : start + len(bucket.views)]))
        start += len(bucket.views)
    return found


def step_together(engine: PipelineEngine, votes: Votes, sums: GradientSums, flat: Tensor, learning_rate: float) -> None:
    """DeepSpeed's step with the finished sums, unless they are not finite.

    Args:
        engine: clips by the norm over all stages, and updates.
        votes: of those that step together.
        sums: of this step.
        flat: where they are.
        learning_rate: of this step.
    """
    values = sums.finish()
    if not votes.passes(flat):
        return
    for group in engine.optimizer.param_groups:
        group["lr"] = learning_rate
    hand_over(engine, values)
    if not take_step(engine):
        votes.refuse()
