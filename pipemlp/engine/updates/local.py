"""Replicas that step on their own, and now and then all take the average of their weights.

    replica 0    step step step step \\                 / step step ...
    replica 1    step step step step -- average change -  step step ...
                                       of the weights

The average change is what an outer optimizer moves the common weights by: 1 x change is local SGD (Stich 2019);
Nesterov momentum over the changes is DiLoCo (Douillard et al. 2023, arXiv 2311.08105).
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
import torch.distributed as dist
from deepspeed.runtime.pipe.engine import PipelineEngine
from torch import Tensor, nn

from pipemlp.config.gradients import GradientsConfig, Local
from pipemlp.engine.gradient_sums import GradientSums
from pipemlp.engine.private.master_weights import read_weights, write_weights
from pipemlp.engine.updates.exchanging import in_buckets, pattern_exchange, state_of, step_together
from pipemlp.engine.updates.update import Update
from pipemlp.engine.votes import Votes
from pipemlp.gradients.links import Links
from pipemlp.gradients.pattern import make_pattern


class LocalUpdate(Update):
    """Steps alone, averages every `local_steps`.

    Args:
        engine: whose optimizer knows this replica only.
        parameters: of the stage, in the order of the sums.
        config: pattern, compression, and the options of `local`.
        group: of the replicas of this stage, for this alone.
        flat: where the sums are.
        votes: of the stages of this replica.
    """

    def __init__(
        self,
        engine: PipelineEngine,
        parameters: Sequence[nn.Parameter],
        config: GradientsConfig,
        group: dist.ProcessGroup,
        flat: Tensor,
        votes: Votes,
    ) -> None:
        assert isinstance(config.update, Local)
        self._engine, self._parameters, self._options, self._flat = engine, parameters, config.update, flat
        super().__init__(votes)
        self._group, links = group, Links(group)
        self._pattern, self._num_replicas = make_pattern(config.pattern, links), links.num_replicas
        self._common = read_weights(engine, parameters)
        self._change = torch.empty_like(self._common)
        self._momentum = torch.zeros_like(self._common) if self._options.outer_momentum else None
        self._buckets = in_buckets(self._change, parameters)
        self._exchange, self._compressions = pattern_exchange(config, self._buckets, links, self.meter)
        self._since = torch.zeros((), dtype=torch.int64)
        self._num_refused = 0

    def state(self) -> dict[str, Tensor]:
        """The common weights, the outer momentum, steps since the last average, and the compressions."""
        own = {"common": self._common, "since": self._since}
        if self._momentum is not None:
            own["momentum"] = self._momentum
        return own | state_of(self._compressions, "compression")

    def begin_anew(self) -> None:
        """From the weights as they are now, which all replicas have in common."""
        self._common.copy_(read_weights(self._engine, self._parameters))
        self._since.zero_()
        if self._momentum is not None:
            self._momentum.zero_()

    def step(self, sums: GradientSums, learning_rate: float) -> None:
        """This replica's own step; with all others the average, if it is time."""
        step_together(self._engine, self.votes, sums, self._flat, learning_rate)
        self._num_refused += self.votes.refused is not None
        self._since += 1
        if self._since == self._options.local_steps:
            self._average()

    @torch.no_grad()
    def _average(self) -> None:
        self._since.zero_()
        torch.sub(read_weights(self._engine, self._parameters), self._common, out=self._change)
        self._change.div_(self._num_replicas)
        for index in range(len(self._buckets)):
            self._exchange.start(index)
        self._exchange.finish()
        self._common.add_(self._outer_step(self._change), alpha=self._options.outer_lr)
        write_weights(self._engine, self._parameters, self._common)

    def _outer_step(self, change: Tensor) -> Tensor:
        """Nesterov's, as in torch.optim.SGD."""
        if self._momentum is None:
            return change
        momentum = self._options.outer_momentum
        self._momentum.mul_(momentum).add_(change)
        return change.add(self._momentum, alpha=momentum)

    @contextmanager
    def judged(self) -> Iterator[None]:
        """The average of all replicas' weights, for a while; the training does not notice."""
        own = read_weights(self._engine, self._parameters)
        self._take_average(own)
        try:
            yield
        finally:
            write_weights(self._engine, self._parameters, own)

    def _take_average(self, own: Tensor) -> None:
        average = own / self._num_replicas
        self._pattern.sum(average)
        write_weights(self._engine, self._parameters, average)

    def warnings(self) -> list[str]:
        """How many steps the replicas have left out that nobody hears of at once."""
        own, self._num_refused = (dist.get_rank(self._group), self._num_refused), 0
        everyone = [own] * dist.get_world_size()
        dist.all_gather_object(everyone, own)
        return [
            f"replica {replica}: {count} steps were left out, as gradients were not finite"
            for replica, count in sorted(set(everyone))
            if count and replica > 0  # of those of replica 0 each is told
        ]

    def end(self) -> None:
        """The average that an evaluation judges now; after an unfinished round the outer optimizer takes no step."""
        if self._since:
            self._take_average(read_weights(self._engine, self._parameters))
