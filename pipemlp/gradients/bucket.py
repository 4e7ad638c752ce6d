"""What is exchanged at once: a run of a flat buffer, with a view for each tensor in it."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

from torch import Tensor, nn

from pipemlp.planning.sums import BUCKET_BYTES


@dataclass(frozen=True)
class Bucket:
    """Values of several tensors, one after the other.

    Args:
        values: 1-D.
        views: the tensors in it, shaped as their parameters are.
    """

    values: Tensor
    views: tuple[Tensor, ...]


class BucketExchange(Protocol):
    """Exchanges buckets with the other replicas, one after the other, while this rank goes on computing."""

    def start(self, index: int) -> None:
        """The values of a bucket are final: exchange them, once those before are."""

    def finish(self) -> None:
        """Wait until all that was started is exchanged."""


def bucketed(
    parameters: Sequence[nn.Parameter], value_bytes: int, bucket_bytes: int = BUCKET_BYTES
) -> Iterator[list[nn.Parameter]]:
    """Runs of parameters that fill a bucket at most, or of a single one."""
    members: list[nn.Parameter] = []
    size = 0
    for parameter in parameters:
        if members and value_bytes * (size + parameter.numel()) > bucket_bytes:
            yield members
            members, size = [], 0
        members.append(parameter)
        size += parameter.numel()
    if members:
        yield members
