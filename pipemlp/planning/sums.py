"""How gradients are summed: in float32, and over the replicas in buckets."""

SUM_BYTES = 4
"""Of one value of a sum, whatever the compute precision; the optimizer computes in it too."""
COMPRESSED_BUCKET_BYTES = 16 * 2**20
"""The same where sums are compressed: of the little that is sent, fewer messages count for more than an early start."""
BUCKET_BYTES = 4 * 2**20
"""Sums that are reduced over the replicas at once: a weight of 1,024 x 1,024, so that its exchange can begin before the
next layer has its gradient."""
