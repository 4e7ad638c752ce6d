"""The synchronous parameter server: every replica serves its part of the stage, and updates it by all pushes.

push      every replica sends each part of its gradient to whoever serves it, while it goes on computing
update    every server adds in the order of the replicas, and lets its optimizer take the step
pull      every server sends its part of the new parameters to all
"""

import math
from collections.abc import Sequence

import torch
import torch.distributed as dist
from torch import Tensor, nn

from pipemlp.config.gradients import CompressionConfig
from pipemlp.config.training import OptimizerConfig
from pipemlp.engine.gradient_sums import GradientSums
from pipemlp.engine.optimizer import build_optimizer
from pipemlp.engine.updates.exchanging import by_bucket, shapes_of
from pipemlp.engine.updates.serving import ServingUpdate
from pipemlp.engine.votes import Votes
from pipemlp.gradients.bucket import Bucket, BucketExchange
from pipemlp.gradients.exchange import ThreadedExchange
from pipemlp.gradients.fully_connected import FullyConnected
from pipemlp.gradients.links import Links
from pipemlp.gradients.parameter_server import ParameterServer, flattened
from pipemlp.gradients.push import Push, make_push
from pipemlp.planning.sums import COMPRESSED_BUCKET_BYTES


class ServedUpdate(ServingUpdate):
    """Push, update, pull.

    Args:
        parameters: of the stage, in the order of the sums.
        optimizer: its configuration.
        compression: of the push.
        clip_norm: largest norm of the whole model's gradient.
        group: of the replicas of this stage, for this alone.
        votes: of all ranks.
    """

    _pushes: list[Push]

    def __init__(
        self,
        parameters: Sequence[nn.Parameter],
        optimizer: OptimizerConfig,
        compression: CompressionConfig,
        clip_norm: float | None,
        group: dist.ProcessGroup,
        votes: Votes,
    ) -> None:
        self._parameters, self._optimizer, self._compression = parameters, optimizer, compression
        self._clip_norm = clip_norm
        self._links = Links(group)
        self._way = FullyConnected(self._links)
        super().__init__(votes)
        if compression.name != "none":
            self.bucket_bytes = COMPRESSED_BUCKET_BYTES
        self.exchange_of = self._exchange_of
        self._own: dict[int, Tensor] = {}

    def _exchange_of(self, buckets: Sequence[Bucket]) -> BucketExchange:
        index, num_servers = self._links.rank, self._links.num_replicas
        self._members = by_bucket(self._parameters, buckets)
        self._weights = flattened(self._members)
        self._served = ParameterServer(
            self._weights,
            buckets[0].values.dtype,
            index,
            num_servers,
            lambda values: build_optimizer(self._optimizer, values),
        )
        self._pushes = pushes = [make_push(self._compression, self._links, shapes_of(bucket)) for bucket in buckets]

        def push(index: int) -> None:
            self._own[index] = pushes[index].scatter(buckets[index])

        return ThreadedExchange(push, buckets, lambda: self._links.bytes_sent, self.meter)

    def step(self, sums: GradientSums, learning_rate: float) -> None:
        """Wait for the pushes, update, pull; if a replica's gradient is not finite, no server changes anything."""
        sums.finish()
        gradient = torch.cat([self._own[index] for index in sorted(self._own)])
        scale = self._scale(gradient)
        if scale is None:
            return self.votes.refuse()
        self._served.update(gradient.mul_(scale) if scale < 1 else gradient, learning_rate)
        self._served.write()
        before = self._links.bytes_sent
        with self.meter.waiting(), self.meter.busy():
            for bucket in self._weights:
                self._way.gather(bucket.values, "pulling parameters")
        self.meter.bytes_sent += self._links.bytes_sent - before

    def _scale(self, gradient: Tensor) -> float | None:
        """What the gradient is multiplied by, so that its norm over all parts and stages is small enough; None if it
        is not finite somewhere."""
        squares = gradient.double().square().sum() if self._clip_norm else gradient.sum().double()
        squares += self.votes.of_loss
        dist.all_reduce(squares)
        total = float(squares)
        if not math.isfinite(total):
            return None
        return self._clip_norm / (math.sqrt(total) + 1e-6) if self._clip_norm else 1.0
