"""A step whose loss or gradient is not finite: where it went wrong, and whether the run goes on without it."""

from collections.abc import Callable

from pipemlp.config.errors import NotFiniteError
from pipemlp.config.root import RunConfig
from pipemlp.engine.pipeline import Pipeline
from pipemlp.planning.budget import Budget
from pipemlp.training.batches import BatchLoader
from pipemlp.training.weight_check import remedy

MOST_IN_A_ROW = 20
"""Steps left out one after the other: then nothing is learnt any more, and the run fails whatever it was told."""


class Refusals:
    """Of one rank; all ranks that step together have the same.

    Args:
        pipeline: whose steps are looked at.
        loader: reads a batch again.
        budget: of the run.
        config: of the run; `fault.nonfinite` says whether it goes on.
        note: tells the user what was left out.
    """

    def __init__(
        self,
        pipeline: Pipeline,
        loader: BatchLoader,
        budget: Budget,
        config: RunConfig,
        note: Callable[[str], None],
    ) -> None:
        self._pipeline, self._loader, self._budget = pipeline, loader, budget
        self._skips, self._remedy, self._note = config.fault.nonfinite == "skip", remedy(config), note
        self._last: tuple[int, int | None] | None = None
        self._num_in_a_row = 0

    def look(self, *, settle: bool, slice_index: int | None = None) -> bool:
        """After a step: whether one was refused, and traced just now.

        Args:
            settle: wait until that is known of the last step too.
            slice_index: of the global batch, that was trained; this replica's own unless it says otherwise.

        Raises:
            NotFiniteError: naming step, layer and micro-batch, on all ranks that step together.
        """
        step = self._pipeline.refused_step(settle=settle)
        if step is None:
            self._num_in_a_row = 0
            return False
        if (step, slice_index) == self._last:
            return False
        self._num_in_a_row += 1
        self._last = step, slice_index
        what = f"step {step + 1}: {self._where(step, slice_index)}"
        if not self._skips:
            raise NotFiniteError(
                f"{what}; nothing of this step is in a checkpoint; {self._remedy}, or leave such steps out with "
                "fault.nonfinite=skip"
            )
        if self._num_in_a_row == MOST_IN_A_ROW:
            raise NotFiniteError(f"{what}; {MOST_IN_A_ROW} steps in a row were left out; {self._remedy}")
        self._note(f"left out {what}")
        return True

    def _where(self, step: int, slice_index: int | None) -> str:
        own = self._pipeline.place.replica if slice_index is None else slice_index
        batch = self._loader.slice_of_batch(*divmod(step, self._budget.steps_per_epoch), own)
        found = self._pipeline.trace_batch(batch, step=step, slice_index=slice_index)
        if found is None:
            return "the loss or a gradient is not finite, but was when the step was done again"
        if not self._pipeline.update.votes.left_out_by_all:
            return f"{found}, as far as can be seen after other ranks took the step"
        return str(found)
