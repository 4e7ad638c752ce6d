"""How gradients are summed: in float32, over the replicas in buckets, and those in segments on every link."""

from dataclasses import dataclass

SUM_BYTES = 4
"""Of one value of a sum, whatever the compute precision; the optimizer computes in it too."""
COMPRESSED_BUCKET_BYTES = 16 * 2**20
"""The same where sums are compressed: of the little that is sent, fewer messages count for more than an early start."""
BUCKET_BYTES = 4 * 2**20
"""Sums that are reduced over the replicas at once: a weight of 1,024 x 1,024, so that its exchange can begin before the
next layer has its gradient."""


@dataclass(frozen=True)
class Segments:
    """How a pattern cuts what goes over a link: while a segment is added, others arrive.

    Args:
        num_bytes: of each at most.
        num_ahead: that may arrive before the first of them is needed.
    """

    num_bytes: int
    num_ahead: int

    def num_of(self, num_bytes: float) -> int:
        """As few as keep each below its size; at least one."""
        return int(num_bytes // self.num_bytes) + 1


RING_SEGMENTS = Segments(4 * 2**20, 6)
"""Measured, four replicas on two cores: with 256 KiB messages cost half of the speed, with 1 MiB a tenth. A receive
that is posted late costs its sender time."""
TREE_SEGMENTS = Segments(2**19, 2)
"""Measured: at 100 Mbit/s a vector of 1 MiB takes 0.43 s in one piece and 0.30 s in these; without a limit on the links
larger ones are faster, but there the ring is, too."""
DIRECT_SEGMENTS = Segments(4 * 2**20, 2)
"""As for the ring; here too, more gains nothing."""
