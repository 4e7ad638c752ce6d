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
    # the engine runs on a copy of what was received or loaded, and keeps both
    copies = num_in_flight * _entering_bytes(layers[0], micro_batch_rows, value_bytes)
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
    # an input layer without embeddings passes its input on as it is
    groups = [[layer for layer in group if layer.kind != "input" or layer.parameters] for group in groups]
    groups = [group for group in groups if group]
    inputs = sum(_entering_bytes(group[0], rows, value_bytes) for group in groups)
    largest = max(_kept_anew_bytes(group, rows, value_bytes) for group in groups)
    return num_in_flight * (inputs + outputs) + largest


def _entering_bytes(layer: LayerDescription, rows: int, value_bytes: int) -> int:
    """The input of a layer; that of the input layer is float32 numbers and codes."""
    if layer.kind == "input":
        return rows * (4 * layer.input_width + layer.kept_bytes_per_row)
    return rows * value_bytes * layer.input_width


def _kept_anew_bytes(group: Sequence[LayerDescription], rows: int, value_bytes: int) -> int:
    """What a group keeps when it runs again, but for its input, which is there already."""
    kept = [kept_bytes(layer, rows, value_bytes) for layer in group]
    return max(0, kept[0] - _entering_bytes(group[0], rows, value_bytes)) + sum(kept[1:])
