"""Bytes per rank before the run: parameters, gradients, optimizer state, activations, buffers."""

from collections.abc import Sequence
from dataclasses import dataclass

from pipemlp.planning.layers import LayerDescription, kept_bytes

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
    layers: Sequence[LayerDescription],
    *,
    stage: int,
    num_stages: int,
    num_in_flight: int,
    micro_batch_rows: int,
    optimizer: str,
    precision: str,
    zero_stage: int,
    num_replicas: int,
    recompute_layers: int,
) -> MemoryEstimate:
    """Peak bytes of the rank that holds `layers`.

    Args:
        layers: the stage's own layers.
        stage: its index; the first receives no activations, the last no gradients.
        num_stages: stages in all.
        num_in_flight: micro-batches between their forward and their backward, at the most.
        micro_batch_rows: rows of one micro-batch.
        optimizer: a key of `STATE_VALUES`.
        precision: `fp32` or `bf16`; bf16 keeps a float32 copy of weights and gradient sums.
        zero_stage: 1 shards the optimizer state, and for bf16 the float32 weights, over the replicas.
        num_replicas: the shards.
        recompute_layers: layers between two kept inputs; 0 keeps everything.
    """
    num_parameters = sum(layer.num_parameters for layer in layers)
    value_bytes = 2 if precision == "bf16" else 4
    shards = num_replicas if zero_stage == 1 else 1
    master_bytes = 4 * num_parameters // shards if zero_stage == 1 else 0
    gradient_bytes = value_bytes * num_parameters
    if zero_stage == 1:
        gradient_bytes += 4 * num_parameters // (1 if precision == "bf16" else shards)
    crossing = micro_batch_rows * value_bytes
    received = layers[0].input_width * crossing if stage > 0 else 0
    returned = layers[-1].output_width * crossing if stage < num_stages - 1 else 0
    # the engine runs on a copy of what was received or loaded; loaded numbers are float32, codes are int64
    loaded = micro_batch_rows * (4 * layers[0].input_width + layers[0].kept_bytes_per_row)
    copies = num_in_flight * (received if stage > 0 else loaded)
    activation_bytes = _activation_bytes(layers, num_in_flight, micro_batch_rows, value_bytes, recompute_layers)
    if stage == num_stages - 1:
        activation_bytes += num_in_flight * 4 * layers[-1].output_width * micro_batch_rows  # kept by the loss
    return MemoryEstimate(
        parameter_bytes=value_bytes * num_parameters,
        gradient_bytes=gradient_bytes,
        optimizer_bytes=master_bytes + STATE_VALUES[optimizer] * 4 * num_parameters // shards,
        activation_bytes=activation_bytes,
        buffer_bytes=received + returned + copies,
    )


def _activation_bytes(
    layers: Sequence[LayerDescription], num_in_flight: int, rows: int, value_bytes: int, recompute_layers: int
) -> int:
    """Kept between forward and backward; with recomputation, inputs of the groups and one whole group."""
    outputs = rows * value_bytes * layers[-1].output_width
    if recompute_layers == 0:
        return num_in_flight * (sum(kept_bytes(layer, rows, value_bytes) for layer in layers) + outputs)
    groups = [layers[i : i + recompute_layers] for i in range(0, len(layers), recompute_layers)]
    inputs = sum(group[0].input_width for group in groups) * rows * value_bytes
    largest = max(sum(_kept_anew(layer, i == 0, rows, value_bytes) for i, layer in enumerate(g)) for g in groups)
    return num_in_flight * (inputs + outputs) + largest


def _kept_anew(layer: LayerDescription, is_first: bool, rows: int, value_bytes: int) -> int:
    """What a layer keeps when it runs again; the input of the group's first layer is there already."""
    there = rows * value_bytes * layer.input_width if is_first and layer.kept_values_per_row else 0
    return kept_bytes(layer, rows, value_bytes) - there
