"""Sums of messages that do not add up: they are decoded where they are added, and the sum is a message again.

    three replicas, a vector of the parts a b c; replica 1 owns b

    push     every replica encodes each part of its own vector for the part's owner
             0 --b0--> 1 <--b2-- 2        b1 stays at home, encoded like the others
    add      1: b = b0 + b1 + b2          decoded, in the order of the replicas
    pull     every owner encodes its sum for all
             0 <--b--- 1 ---b--> 2        and takes, like them, what the message says

What a message leaves out its sender adds to its next one: a replica on the push, an owner on the pull. So do 1-bit Adam
(Tang et al. 2021) and dist-EF-SGD (Zheng, Huang and Kwok 2019).
"""

from collections.abc import Sequence

from torch import Tensor

from pipemlp.gradients.compression.codec import Codec
from pipemlp.gradients.compression.compression import Shape
from pipemlp.gradients.compression.part_codec import PartCodec, part_codec
from pipemlp.gradients.compression.sender import Sender, nested
from pipemlp.gradients.compression.vectors import as_one_vector
from pipemlp.gradients.links import Links


class CodedSum:
    """Sums a bucket by the messages of a codec, small tensors exactly; each replica owns a part.

    Args:
        codec: of the push; the pull has what it takes for sums.
        links: of the replicas.
        shapes: of the tensors of the bucket.
        error_feedback: whether what messages leave out is kept for the next step.
    """

    def __init__(self, codec: Codec, links: Links, shapes: Sequence[Shape], *, error_feedback: bool) -> None:
        self._links = links
        owners = range(links.num_replicas)
        self._codecs = [part_codec(codec, shapes, links.num_replicas, owner) for owner in owners]
        self._sum_codecs = [own.for_sums(links.num_replicas) for own in self._codecs]
        self._push = [Sender(own, own.num_values, error_feedback=error_feedback) for own in self._codecs]
        own = self._sum_codecs[links.rank]
        self._pull = Sender(own, own.num_values, error_feedback=error_feedback)

    def sum(self, views: Sequence[Tensor]) -> None:
        """See `Compression`."""
        with as_one_vector(views) as vector:
            parts = vector.split([codec.num_values for codec in self._codecs])
            self._pull.take([self._pushed(parts)])
            own = self._pull.encode()
            pulled = self._exchanged([own] * len(parts), self._sum_codecs)
            for part, codec, message in zip(parts, self._sum_codecs, pulled, strict=True):
                part.copy_(codec.decode(message, len(part)))

    def _pushed(self, parts: Sequence[Tensor]) -> Tensor:
        """The sum of this replica's own part."""
        for sender, part in zip(self._push, parts, strict=True):
            sender.take([part])
        codec = self._codecs[self._links.rank]
        pushed = self._exchanged([sender.encode() for sender in self._push], [codec] * len(parts))
        total = codec.decode(pushed[0], codec.num_values)
        for message in pushed[1:]:
            total.add_(codec.decode(message, codec.num_values))
        return total

    def _exchanged(self, outgoing: Sequence[Tensor], codecs: Sequence[PartCodec]) -> list[Tensor]:
        """Send every replica a message; what all sent to this one, each as long as its codec says."""
        links = self._links
        incoming = [outgoing[0].new_empty(codec.num_bytes) for codec in codecs]
        incoming[links.rank] = outgoing[links.rank]
        links.swap(outgoing, incoming, "sum of coded gradients")
        return incoming

    def state(self) -> dict[str, Tensor]:
        """See `Compression`."""
        pushed = {f"push.{owner}": sender.state() for owner, sender in enumerate(self._push)}
        return nested(pushed | {"pull": self._pull.state()})
