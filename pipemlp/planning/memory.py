"""Bytes per rank before the run: parameters, gradients, optimizer state, activations, buffers."""

from collections.abc import Sequence
from dataclasses import dataclass

from pipemlp.planning.costs import entering_bytes, run_kept_bytes
from pipemlp.planning.layers import LayerDescription
from pipemlp.planning.recompute import Recompute, group_bounds

STATE_VALUES = {"sgd": 0, "sgd-momentum": 1, "adam": 2, "adamw": 2}
"""Values of float32 optimizer state per parameter."""


@dataclass(frozen=True)
class MemoryEstimate:
    """What one rank holds at its peak, in bytes."""

    parameter_bytes: int
    gradient_bytes: int
    optimizer_bytes: int
    activation_bytes: int
    buffer_bytes: int

    @property
    def total_bytes(self) -> int:
        """All of it."""
        return (
            self.parameter_bytes
            + self.gradient_bytes
            + self.optimizer_bytes
            + self.activation_bytes
            + self.buffer_bytes
        )


def estimate_memory(
    runs: Sequence[Sequence[LayerDescription]],
    *,
    peak_bytes: float,
    micro_batch_rows: int,
    num_micro_batches: int,
    optimizer: str,
    precision: str,
    zero_stage: int,
    num_replicas: int,
    recompute: Recompute,
) -> MemoryEstimate:
    """Peak bytes of the rank that holds some virtual stages.

    Args:
        runs: the layers of each of its virtual stages.
        peak_bytes: activations and received tensors at the peak between two actions, as simulated.
        micro_batch_rows, num_micro_batches: of a replica's batch.
        optimizer: a key of `STATE_VALUES`.
        precision: `fp32` or `bf16`; bf16 keeps a float32 copy of weights and gradient sums.
        zero_stage: 1 shards the optimizer state, and for bf16 the float32 weights, over the replicas.
        num_replicas: the shards.
        recompute: what the backward computes again.
    """
    num_parameters = sum(layer.num_parameters for run in runs for layer in run)
    value_bytes = 2 if precision == "bf16" else 4
    shards = num_replicas if zero_stage == 1 else 1
    master_bytes = 4 * num_parameters // shards if zero_stage == 1 else 0
    gradient_bytes = 4 * num_parameters
    if zero_stage == 1 and precision != "bf16":
        gradient_bytes += 4 * num_parameters // shards  # the optimizer's shard of the sums
    widest = max(max(layer.input_width, layer.output_width) for run in runs for layer in run)
    return MemoryEstimate(
        parameter_bytes=value_bytes * num_parameters,
        gradient_bytes=gradient_bytes,
        optimizer_bytes=master_bytes + STATE_VALUES[optimizer] * 4 * num_parameters // shards,
        activation_bytes=round(peak_bytes)
        + max(_computed_again_bytes(run, micro_batch_rows, value_bytes, recompute) for run in runs),
        # a result and a gradient in the making, and the batches
        buffer_bytes=2 * widest * micro_batch_rows * value_bytes
        + _batch_bytes(runs, micro_batch_rows * num_micro_batches),
    )


def _computed_again_bytes(run: Sequence[LayerDescription], rows: int, value_bytes: int, recompute: Recompute) -> int:
    """What the backward of one micro-batch holds besides, when it runs a part of the forward again."""
    if recompute == 0:
        return 0
    if recompute == "elementwise":  # a product is let go as soon as it is used again, unless autograd keeps it
        products = rows * value_bytes * sum(layer.product_values_per_row for layer in run)
        return max(0, _kept_anew_bytes(run, rows, value_bytes) - products)
    bounds = group_bounds([bool(layer.parameters) for layer in run], recompute)
    return max(_kept_anew_bytes(run[start:stop], rows, value_bytes) for start, stop in bounds)


def _kept_anew_bytes(group: Sequence[LayerDescription], rows: int, value_bytes: int) -> int:
    """What a group keeps when it runs again, but for its input, which is there already."""
    return run_kept_bytes(group, rows, value_bytes, 0) - entering_bytes(group[0], rows, value_bytes)


def _batch_bytes(runs: Sequence[Sequence[LayerDescription]], num_rows: int) -> int:
    """The inputs and labels of two batches, for the next one is read ahead."""
    first, last = runs[0][0], runs[-1][-1]
    inputs = 4 * first.input_width + first.kept_bytes_per_row if first.kind == "input" else 0
    labels = 4 * last.output_width + 4 if last.kind == "output" else 0
    return 2 * num_rows * (inputs + labels)
