"""Whether the gradient of a step is finite on all ranks that take it together, before any weight is changed by it.

    at once    all ranks agree before they step, and leave the step out together; so stages meet after every step
    late       a rank whose own gradient is not finite leaves its step out; the others learn of it one step later,
               before they take that one. Nobody waits: stages go on into the next step as they did before

A checkpoint or an evaluation settles what is still open, so that neither sees a weight that such a step has touched.
"""

import torch
import torch.distributed as dist
from torch import Tensor


class Votes:
    """One rank's.

    Args:
        group: of those that step together; None for all ranks.
        num_ranks: of the group.
        at_once: whether they agree before the step.
    """

    def __init__(self, group: dist.ProcessGroup | None, num_ranks: int, *, at_once: bool) -> None:
        self._group, self._num_ranks, self._at_once = group, num_ranks, at_once
        self._open: tuple[int, Tensor, dist.Work] | None = None
        self._step = 0
        self.of_loss: Tensor | float = 0.0
        """0, or no number where this rank's loss is none: what is added to a sum of gradients tells of both."""
        self.refused: int | None = None
        """A step that was left out, by its index, as soon as all of them know; until the next one begins."""

    def begin(self, step: int, own_loss: Tensor) -> None:
        """A step is about to be taken, by its index; with the loss, a scalar, where this rank computes it."""
        self._step, self.of_loss, self.refused = step, own_loss * 0.0, None

    def passes(self, gradients: Tensor) -> bool:
        """Whether this rank may take its step.

        Args:
            gradients: all those of this rank. Their sum takes no memory, and is not finite where one of them is not;
                nor where they are near the end of their type, with which no step can be taken either.
        """
        is_finite = bool((gradients.sum() + self.of_loss).isfinite())
        self.settle()
        if self.refused is not None:
            return False
        if self._num_ranks == 1:
            if not is_finite:
                self.refuse()
            return is_finite
        vote = torch.tensor(float(is_finite), device=gradients.device)
        work = dist.all_reduce(vote, op=dist.ReduceOp.MIN, group=self._group, async_op=True)
        self._open = self._step, vote, work
        if self._at_once:
            self.settle()
            return self.refused is None
        return is_finite

    def refuse(self) -> None:
        """The step that began is left out, and all of them know."""
        self.refused = self._step

    def settle(self) -> None:
        """Wait for the vote that is open, if one is; all of them must ask."""
        if self._open is not None:
            (step, vote, work), self._open = self._open, None
            work.wait()
            if not vote:
                self.refused = step
