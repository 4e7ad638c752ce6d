"""The push to parameter servers: each part of a bucket goes to the replica that serves it, which adds what it gets.

three replicas, a bucket of the parts a b c; replica 1 serves b

0 --b0--> 1 <--b2-- 2        1: b = b0 + b1 + b2, in the order of the replicas
"""

from collections.abc import Sequence
from typing import Protocol

import torch
from torch import Tensor

from pipemlp.config.gradients import CompressionConfig, NoCompression, PowerSgdCompression
from pipemlp.gradients.bucket import Bucket
from pipemlp.gradients.compression.making import make_codec, make_compression
from pipemlp.gradients.fully_connected import FullyConnected
from pipemlp.gradients.links import Links
from pipemlp.gradients.parts import part_of
from pipemlp.gradients.push_messages import PushMessages, Shapes


class Push(Protocol):
    """How a bucket's gradients come to the servers."""

    def scatter(self, bucket: Bucket) -> Tensor:
        """The sum of all replicas' gradients of the part that this replica serves, 1-D."""

    def state(self) -> dict[str, Tensor]:
        """What was left out so far: live tensors."""


def make_push(settings: CompressionConfig, links: Links, shapes: Shapes) -> Push:
    """The push of a bucket with tensors of these shapes."""
    if isinstance(settings, NoCompression):
        return PlainPush(links)
    if isinstance(settings, PowerSgdCompression):
        return SummedPush(settings, links, shapes)
    feedback = settings.error_feedback
    messages = PushMessages(make_codec(settings), shapes, links.num_replicas, error_feedback=feedback)
    return WarmUpPush(PlainPush(links), CodedPush(links, messages), settings.warmup_steps)


class PlainPush:
    """Values as they are."""

    def __init__(self, links: Links) -> None:
        self._links = links

    def scatter(self, bucket: Bucket) -> Tensor:
        """See `Push`."""
        num = self._links.num_replicas
        parts = [bucket.values[part_of(len(bucket.values), num, server)] for server in range(num)]
        return _added(_exchanged(self._links, parts))

    def state(self) -> dict[str, Tensor]:
        """Nothing."""
        return {}


class CodedPush:
    """Messages of a codec."""

    def __init__(self, links: Links, messages: PushMessages) -> None:
        self._links, self._messages = links, messages

    def scatter(self, bucket: Bucket) -> Tensor:
        """See `Push`."""
        arrived = _exchanged(self._links, self._messages.encode(bucket.values))
        return _added([self._messages.decode(message, self._links.rank) for message in arrived])

    def state(self) -> dict[str, Tensor]:
        """See `Push`."""
        return self._messages.state()


class WarmUpPush:
    """The first pushes as they are.

    Args:
        plain, coded: before and after.
        num_steps: how many come before.
    """

    def __init__(self, plain: Push, coded: Push, num_steps: int) -> None:
        self._plain, self._coded, self._left = plain, coded, torch.tensor(num_steps)

    def scatter(self, bucket: Bucket) -> Tensor:
        """See `Push`."""
        push = self._plain if self._left > 0 else self._coded
        self._left.sub_(1).clamp_(min=0)
        return push.scatter(bucket)

    def state(self) -> dict[str, Tensor]:
        """See `Push`; and how many pushes are still sent as they are."""
        return {"left": self._left, **self._coded.state()}


class SummedPush:
    """PowerSGD's factors have to be known everywhere; the server takes its part of their product."""

    def __init__(self, settings: PowerSgdCompression, links: Links, shapes: Shapes) -> None:
        self._links, self._settings = links, settings
        sizes = [torch.Size(shape) for shape in shapes]
        self._compression = make_compression(settings, FullyConnected(links), links, sizes)

    def scatter(self, bucket: Bucket) -> Tensor:
        """See `Push`."""
        self._compression.sum(bucket.views)
        return bucket.values[part_of(len(bucket.values), self._links.num_replicas, self._links.rank)]

    def state(self) -> dict[str, Tensor]:
        """See `Push`."""
        return self._compression.state()


def _exchanged(links: Links, outgoing: Sequence[Tensor]) -> list[Tensor]:
    """Send every server its tensor; those that came, by replica, each like the own one."""
    own = outgoing[links.rank]
    arrived = [own if replica == links.rank else torch.empty_like(own) for replica in range(links.num_replicas)]
    links.swap(outgoing, arrived, "pushing gradients")
    return arrived


def _added(values: Sequence[Tensor]) -> Tensor:
    """The sum in the order of the replicas."""
    total = values[0].clone()
    for each in values[1:]:
        total.add_(each)
    return total
