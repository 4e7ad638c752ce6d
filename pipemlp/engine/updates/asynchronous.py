"""Replicas that push gradients and pull parameters, each at its own pace (see gradients/asynchronous.py).

Between two evaluations they run freely; for one, all pause, and take what the servers then have.
"""

import math
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch
import torch.distributed as dist
from torch import Tensor, nn

from pipemlp.config.errors import RunFailedError
from pipemlp.config.gradients import Asynchronous, GradientsConfig, Lossy, PowerSgdCompression
from pipemlp.config.training import OptimizerConfig
from pipemlp.engine.gradient_sums import GradientSums
from pipemlp.engine.optimizer import build_optimizer
from pipemlp.engine.updates.exchanging import by_bucket, in_buckets, shapes_of
from pipemlp.engine.updates.serving import ServingUpdate
from pipemlp.engine.votes import Votes
from pipemlp.gradients.asynchronous import AsynchronousServer, AsynchronousWorker
from pipemlp.gradients.bucket import Bucket
from pipemlp.gradients.compression.making import make_codec
from pipemlp.gradients.fully_connected import FullyConnected
from pipemlp.gradients.links import Links
from pipemlp.gradients.parameter_server import ParameterServer, flattened
from pipemlp.gradients.parts import part_of
from pipemlp.gradients.push_messages import PushMessages


@dataclass(frozen=True)
class AsynchronousGroups:
    """Where messages go.

    Args:
        requests: pushes, of this stage's replicas; nobody may time out on it.
        answers: parameters.
        pipe: the stages of this replica; None for a single stage.
    """

    requests: dist.ProcessGroup
    answers: dist.ProcessGroup
    pipe: dist.ProcessGroup | None


class AsynchronousUpdate(ServingUpdate):
    """Push, pull, go on.

    Args:
        parameters: of the stage, in the order of the sums.
        flat: where the sums are, for their type.
        optimizer: its configuration.
        config: bound and compression.
        clip_norm: largest norm of this replica's own gradient.
        groups: of the replicas and stages.
        votes: of the stages of this replica.
        timeout_seconds: to wait for a server.
    """

    _pushes: list[PushMessages]

    def __init__(
        self,
        parameters: Sequence[nn.Parameter],
        flat: Tensor,
        optimizer: OptimizerConfig,
        config: GradientsConfig,
        clip_norm: float | None,
        groups: AsynchronousGroups,
        votes: Votes,
        timeout_seconds: float,
    ) -> None:
        assert isinstance(config.update, Asynchronous) and not isinstance(config.compression, PowerSgdCompression)
        super().__init__(votes)
        self._clip_norm, self._pipe = clip_norm, groups.pipe
        self._requests, self._answers = Links(groups.requests), Links(groups.answers)
        self._index, num = self._requests.rank, self._requests.num_replicas
        self._num_replicas = num
        self._gradients = in_buckets(flat, parameters)
        self._members = by_bucket(parameters, self._gradients)
        self._weights = flattened(self._members)
        codec, shapes = make_codec(config.compression), [shapes_of(bucket) for bucket in self._gradients]
        feedback = isinstance(config.compression, Lossy) and config.compression.error_feedback
        self._pushes = [PushMessages(codec, own, num, error_feedback=feedback) for own in shapes]
        self._message_bytes = [sum(each.codecs[server].num_bytes for each in self._pushes) for server in range(num)]
        self._served = ParameterServer(
            self._weights, flat.dtype, self._index, num, lambda values: build_optimizer(optimizer, values), "cpu"
        )
        value_type = self._weights[0].values.dtype
        self._server = AsynchronousServer(
            self._served,
            groups.requests,
            self._answers,
            self._message_bytes[self._index],
            self._decode,
            value_type,
            config.update.max_staleness,
        )
        num_values = [sum(each.codecs[server].num_values for each in self._pushes) for server in range(num)]
        sizes = [size * value_type.itemsize for size in num_values]
        self.staleness = self._server.staleness
        self._counted = 0
        self._refused: Counter[int] = Counter()
        self._version = 0
        self._worker = AsynchronousWorker(self._server, self._requests, self._answers, sizes, timeout_seconds)

    @torch.no_grad()
    def step(self, sums: GradientSums, learning_rate: float) -> None:
        """Push this replica's gradient, pull the parameters."""
        sums.finish()
        is_finite = self._clip()
        with self.meter.waiting(), self.meter.busy():
            if is_finite:
                pulled = self._worker.push(self._payloads(), learning_rate / self._num_replicas)
            else:
                self.votes.refuse(by_all=False)  # and this replica goes on with what the others have learnt
                pulled = self._worker.skip(self._message_bytes)
        for server, message in enumerate(pulled):
            self._put(server, message)
        self._count()
        self.meter.plain_bytes += sum(bucket.values.nbytes for bucket in self._gradients)
        self.meter.num_steps += 1

    def _payloads(self) -> list[list[Tensor]]:
        """For each server, the messages of its parts of the buckets."""
        pairs = zip(self._gradients, self._pushes, strict=True)
        by_bucket = [messages.encode(bucket.values) for bucket, messages in pairs]
        return [[piece.cpu() for piece in own] for own in zip(*by_bucket, strict=True)]

    def _decode(self, payload: Tensor) -> Tensor:
        """What a push to the server beside this worker says; called by the server's thread."""
        sizes = [messages.codecs[self._index].num_bytes for messages in self._pushes]
        pieces = zip(self._pushes, payload.split(sizes), strict=True)
        return torch.cat([messages.decode(piece, self._index) for messages, piece in pieces])

    def _count(self) -> None:
        """What was sent since the last time, by the server's thread too."""
        total = self._requests.bytes_sent + self._answers.bytes_sent
        self.meter.bytes_sent += total - self._counted
        self._counted = total

    def _clip(self) -> bool:
        """By the norm over all stages of this replica; whether the gradient is finite on all of them."""
        values = [bucket.values for bucket in self._gradients]
        clips = self._clip_norm is not None
        # The sum of the values takes no memory, and is not finite where one of them is not; nor where they are near
        # the end of float32, with which no step can be taken either.
        told = sum(each.double().square().sum() if clips else each.sum().double() for each in values)
        told = told + self.votes.of_loss
        if self._pipe is not None:
            dist.all_reduce(told, group=self._pipe)
        if not math.isfinite(told):
            return False
        scale = self._clip_norm / (math.sqrt(told) + 1e-6) if self._clip_norm is not None else 1.0
        if scale < 1:
            for bucket in self._gradients:
                bucket.values.mul_(scale)
        return True

    def _part(self, bucket: Bucket, server: int) -> slice:
        return part_of(len(bucket.values), self._num_replicas, server)

    def _put(self, server: int, message: Tensor) -> None:
        values, start = message.clone().view(self._weights[0].values.dtype), 0
        for bucket in self._weights:
            own = bucket.values[self._part(bucket, server)]
            own.copy_(values[start : start + len(own)])
            start += len(own)

    @contextmanager
    def judged(self) -> Iterator[None]:
        """What the servers have, once all replicas have paused."""
        self._worker.pause(self._message_bytes)
        dist.barrier()
        self._count()
        self._server.write()
        way = FullyConnected(self._answers)
        for bucket in self._weights:
            values = bucket.values.cpu()  # gloo, which the servers need, goes through the host's memory
            way.gather(values, "pulling parameters")
            if bucket.values.is_cuda:
                bucket.values.copy_(values)
        versions = torch.full((self._num_replicas,), self._server.version)
        way.gather(versions, "pulling parameters")
        self._worker.versions = versions.tolist()
        self._counted = self._requests.bytes_sent + self._answers.bytes_sent
        dist.barrier()
        yield

    def warnings(self) -> list[str]:
        """Which replicas sent gradients that are not finite.

        Raises:
            RunFailedError: if no others came.
        """
        own = Counter(self._server.refused), self._server.version - self._version
        everyone = [own] * dist.get_world_size()
        dist.all_gather_object(everyone, own)
        refused: Counter[int] = Counter()
        for counts, _ in everyone:
            refused |= counts
        new, self._refused = refused - self._refused, refused
        self._version = self._server.version
        if new and min(updates for _, updates in everyone) == 0:
            raise RunFailedError("no replica's gradient was finite; lower optimizer.lr, or set training.clip_norm")
        return [
            f"replica {replica}: {count} gradients were not finite, and changed no parameter"
            for replica, count in sorted(new.items())
        ]

    def end(self) -> None:
        """The servers stop."""
        self._worker.stop(self._message_bytes)
