"""Every step takes the sum of all replicas' gradients: DeepSpeed's optimizer, with our exchange."""

from collections.abc import Sequence

import torch.distributed as dist
from deepspeed.runtime.pipe.engine import PipelineEngine
from torch import Tensor

from pipemlp.config.gradients import GradientsConfig
from pipemlp.engine.gradient_sums import GradientSums
from pipemlp.engine.updates.exchanging import pattern_exchange, state_of, step_together
from pipemlp.engine.updates.update import Update
from pipemlp.engine.votes import Votes
from pipemlp.gradients.bucket import Bucket, BucketExchange
from pipemlp.gradients.compression.compression import Compression
from pipemlp.gradients.exchange import BackendExchange
from pipemlp.gradients.links import Links
from pipemlp.planning.sums import COMPRESSED_BUCKET_BYTES


class SynchronousUpdate(Update):
    """Sums, then the step.

    Args:
        engine: with the optimizer.
        config: pattern and compression.
        group: of the replicas of this stage; None for a single one.
        flat: where the sums are.
        votes: of all ranks.
    """

    def __init__(
        self,
        engine: PipelineEngine,
        config: GradientsConfig,
        group: dist.ProcessGroup | None,
        flat: Tensor,
        votes: Votes,
    ) -> None:
        self._engine, self._config, self._group, self._flat = engine, config, group, flat
        super().__init__(votes)
        self._compressions: list[Compression] = []
        if config.compression.name != "none":
            self.bucket_bytes = COMPRESSED_BUCKET_BYTES
        if group is not None:
            self.exchange_of = self._exchange_of

    def _exchange_of(self, buckets: Sequence[Bucket]) -> BucketExchange:
        assert self._group is not None
        if is_plain(self._config):
            return BackendExchange(buckets, self._group, self.meter)
        exchange, self._compressions = pattern_exchange(self._config, buckets, Links(self._group), self.meter)
        return exchange

    def state(self) -> dict[str, Tensor]:
        """Of the compressions."""
        return state_of(self._compressions, "compression")

    def step(self, sums: GradientSums, learning_rate: float) -> None:
        """DeepSpeed clips by the norm over all stages, and updates."""
        step_together(self._engine, self.votes, sums, self._flat, learning_rate)


def is_plain(config: GradientsConfig) -> bool:
    """Whether the backend does it all."""
    return config.pattern == "backend" and config.compression.name == "none"
