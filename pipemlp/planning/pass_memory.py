"""What the actions of a micro-batch hold besides what is kept between them: recomputed, made, drawn.

A result and the gradients around it are there together for a moment. Which ones follows from the blocks' backwards, and
was counted: plain blocks make one tensor at a time beside what is kept, residual ones two, gated ones three.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from pipemlp.planning.activation_peaks import ActivationPeaks
from pipemlp.planning.costs import entering_bytes, run_kept_bytes
from pipemlp.planning.layers import LayerDescription
from pipemlp.planning.recompute import Recompute, group_bounds

_MADE_AT_ONCE = {"plain": 1, "output": 1, "residual": 2, "gated": 3}
"""Tensors of the block's greatest width that its backward makes before it lets go of as much; two for plug-ins."""
_MADE_BY_LOSS = 4
"""The same for a loss, in float32 and of the outputs' shape; a squared error makes the most."""
_MADE_BY_RMS_NORM = 18
"""Bytes per value that the backward of an RMS norm of bf16 makes on a CPU, which computes in float32."""
_MASK_VALUES = 2**14
"""A small mask of dropout is drawn for so many values at once, and kept (model/dropout_mask.py)."""
_MASK_ROWS = 4096
"""The least rows of the table that masks are drawn from."""
_DRAWN_BYTES = 9
"""Two 32-bit integers per value while a mask is drawn, and the mask."""


def computing_bytes(passes: Sequence["PassMemory"], peaks: ActivationPeaks, *, making: bool) -> float:
    """The most that is held within an action, with what is computed again, and with what is made or without."""
    sums = (
        held + more
        for index, one in enumerate(passes)
        for held, more in (
            (peaks.first_forward[index], one.drawn_bytes(first=True) if making else 0),
            (peaks.forward[index], one.drawn_bytes(first=False) if making else 0),
            (peaks.backward[index], one.backward_bytes(defers=False, making=making, alone=one.is_all_of(peaks.kept))),
            (peaks.input_gradient[index], one.backward_bytes(defers=True, making=making)),
            (peaks.weight_gradient[index], one.factor_bytes() if making else 0),
        )
        if held is not None  # else there is no such action
    )
    return max(sums, default=0.0)


@dataclass(frozen=True)
class PassMemory:
    """One micro-batch through a virtual stage: what its actions hold besides what is kept between them.

    Args:
        run: the layers of the virtual stage.
        rows: of the micro-batch.
        value_bytes: of one value in the compute precision.
        recompute: what the backward computes again.
        on_gpu: whether the rank has a GPU.
        batch_rows: of all micro-batches of a replica.
    """

    run: Sequence[LayerDescription]
    rows: int
    value_bytes: int
    recompute: Recompute
    on_gpu: bool
    batch_rows: int

    def drawn_bytes(self, *, first: bool) -> int:
        """What drawing the masks of dropout takes in the step's first forward, or in any; less what comes after it.

        A small mask is drawn for many rows; one for the whole batch serves until the step's end.
        """
        return max((self._drawn_bytes(layer, first, 1 + self.value_bytes) for layer in self.run), default=0)

    def _drawn_bytes(self, layer: LayerDescription, first: bool, after_bytes: int) -> int:
        rows = max(self.rows, mask_window(layer.output_width))
        if not layer.dropout or not (first or rows < self.batch_rows):
            return 0
        return layer.output_width * (_DRAWN_BYTES * rows - after_bytes * self.rows)

    def factor_bytes(self) -> int:
        """The most that a weight gradient takes which was put off."""
        return max(map(self._factor_bytes, self.run), default=0)

    def _factor_bytes(self, layer: LayerDescription) -> int:
        """On a CPU both factors of a weight gradient of bf16 are copied to float32."""
        if self.on_gpu or self.value_bytes != 2:
            return 0
        shapes = [parameter.shape for parameter in layer.parameters if len(parameter.shape) == 2]
        return 4 * self.rows * max(map(sum, shapes), default=0) if layer.kind != "input" else 0

    def is_all_of(self, kept_bytes: float) -> bool:
        """Whether no more than one micro-batch is kept."""
        return kept_bytes <= run_kept_bytes(self.run, self.rows, self.value_bytes, self.recompute)

    def backward_bytes(self, *, defers: bool, making: bool, alone: bool = False) -> int:
        """What is computed again, group by group from the last, and the gradients that are made with it."""
        bounds = group_bounds(
            [bool(layer.parameters) for layer in self.run], self.recompute if self.recompute != "elementwise" else 0
        )
        most = pending = 0
        for start, stop in reversed(bounds):
            group = self.run[start:stop]
            more = self._computed_again_bytes(group)
            if making:
                made = max(self._made_bytes(layer, defers=defers) for layer in group)
                # run again, a block has its activation's result while it draws; its own last mask it finds
                drawn = max(self._drawn_bytes(layer, False, 1 - self.value_bytes) for layer in group)
                more += max(made, drawn if self.recompute and not alone else 0)
            most = max(most, pending + more)
            if defers and self.recompute:
                waiting = self.rows * self.value_bytes * sum(layer.pending_values_per_row for layer in group)
                pending += waiting - entering_bytes(group[0], self.rows, self.value_bytes)
        return most

    def _computed_again_bytes(self, group: Sequence[LayerDescription]) -> int:
        """What a group keeps when it runs again, but for its input, and for products, which are there already."""
        if self.recompute == 0:
            return 0
        anew = run_kept_bytes(group, self.rows, self.value_bytes, 0)
        anew -= entering_bytes(group[0], self.rows, self.value_bytes)
        if self.recompute == "elementwise":  # a product is let go when it is used again, unless autograd keeps it
            anew -= self.rows * self.value_bytes * sum(layer.product_values_per_row for layer in group)
        return max(0, anew)

    def _made_bytes(self, layer: LayerDescription, *, defers: bool) -> int:
        """The most that a layer's gradients take while they are made."""
        if not layer.parameters:
            return 0
        widest = max(layer.output_width, *(shape[-1] for shape in (p.shape for p in layer.parameters)))
        tensor = self.rows * self.value_bytes * widest
        made = _MADE_AT_ONCE.get(layer.kind, 2) * tensor
        if not defers:  # the gradient of the input comes after that of the weight
            made = max(made, made - tensor + self._factor_bytes(layer))
        if layer.norm == "rms" and self.value_bytes == 2 and not self.on_gpu:
            normed = layer.output_width if layer.kind == "plain" else layer.input_width
            made = max(made, _MADE_BY_RMS_NORM * self.rows * normed)
        if layer.kind == "output":
            made = max(made, (_MADE_BY_LOSS + bool(self.recompute)) * 4 * self.rows * layer.output_width)
        return made


def mask_window(width: int) -> int:
    """So many rows of a small mask are drawn at once."""
    return 1 << max(0, (_MASK_VALUES // width).bit_length() - 1)


def mask_table_bytes(passes: Sequence[PassMemory], global_rows: int) -> int:
    """What dropout keeps from step to step: hashes of rows and columns, and small masks."""
    widths = [(one.rows, layer.output_width) for one in passes for layer in one.run if layer.dropout]
    if not widths:
        return 0
    row_table = max(_MASK_ROWS, 1 << (global_rows - 1).bit_length())
    masks = sum(mask_window(width) * width for rows, width in widths if rows < mask_window(width))
    return 4 * (row_table + sum({width for _, width in widths})) + masks
