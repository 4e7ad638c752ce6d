"""Whether the gradient of a step is finite on all ranks that take it together.

    at once    all ranks agree before they step, and leave the step out together; so stages meet after every step
    late       a rank whose own gradient is not finite leaves its step out; the others take it, and learn of it one step
               later, before they take that one. Nobody waits: stages go on into the next step as they did before.
               Only for steps in which no rank waits for another: who leaves one out would be waited for

A checkpoint or an evaluation settles what is still open, so that neither sees a weight that such a step has touched.
"""

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
        self.left_out_by_all = True
        """Whether no rank has taken the refused step."""

    def begin(self, step: int, own_loss: Tensor) -> None:
        """A step is about to be taken, by its index; with the loss, a scalar, where this rank computes it."""
        self._step, self.of_loss, self.refused, self.left_out_by_all = step, own_loss * 0.0, None, True

    def passes(self, gradients: Tensor) -> bool:
        """Whether this rank may take its step.

        Args:
            gradients: all those of this rank. Their norm takes no memory, and is not finite where one of them is not;
                nor where its square has no place in their type, with which no step can be taken either.
        """
        vote = (gradients.norm() + self.of_loss).isfinite().float()
        is_finite = bool(vote)
        self.settle()
        if self.refused is not None:
            return False
        if self._num_ranks == 1:
            if not is_finite:
                self.refuse()
            return is_finite
        work = dist.all_reduce(vote, group=self._group, async_op=True)
        self._open = self._step, vote, work
        if self._at_once:
            self.settle()
            return self.refused is None
        return is_finite

    def refuse(self, *, by_all: bool = True) -> None:
        """The step that began is left out, and all of them know; `by_all` is `left_out_by_all`."""
        self.refused, self.left_out_by_all = self._step, by_all

    def settle(self) -> None:
        """Wait for the vote that is open, if one is; all of them must ask."""
        if self._open is not None:
            (step, vote, work), self._open = self._open, None
            work.wait()
            num_for_it = int(vote)
            if num_for_it < self._num_ranks:
                self.refused, self.left_out_by_all = step, self._at_once or num_for_it == 0
