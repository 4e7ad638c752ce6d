"""Costs layer by layer, in seconds and bytes: what a cut is chosen by."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from pipemlp.planning.costs import entering_bytes
from pipemlp.planning.layer_times import LayerTimes
from pipemlp.planning.layers import LayerDescription, kept_bytes
from pipemlp.planning.memory import resting_state
from pipemlp.planning.recompute import Recompute


@dataclass(frozen=True)
class LayerCosts:
    """Costs of one micro-batch by layer (n of them), and by cut between two layers (n - 1).

    Args:
        forward, input_gradient, weight_gradient: seconds, [n].
        crossing_seconds: what sending the tensor over the cut behind a layer costs a stage, one direction, [n - 1].
        kept_bytes: what a layer keeps from its forward to its backward, [n].
        pending_bytes: what waits from its input gradient to its weight gradient, [n].
        state_bytes: parameters, gradients, optimizer: what does not depend on micro-batches, [n].
        crossing_bytes: the tensor at a cut, [n - 1].
        first_bytes: what a run that begins with a layer keeps besides, [n] or empty for nothing.
        last_bytes: what a run that ends with a layer keeps besides, [n] or empty for nothing; if another run comes
            behind, it is the tensor that was sent.
    """

    forward: tuple[float, ...]
    input_gradient: tuple[float, ...]
    weight_gradient: tuple[float, ...]
    crossing_seconds: tuple[float, ...]
    kept_bytes: tuple[float, ...]
    pending_bytes: tuple[float, ...]
    state_bytes: tuple[float, ...]
    crossing_bytes: tuple[float, ...]
    first_bytes: tuple[float, ...] = ()
    last_bytes: tuple[float, ...] = ()

    @property
    def num_layers(self) -> int:
        """Layers of the whole model."""
        return len(self.forward)

    @property
    def seconds(self) -> tuple[float, ...]:
        """All computation of one micro-batch, [n]."""
        return tuple(map(sum, zip(self.forward, self.input_gradient, self.weight_gradient, strict=True)))


def layer_costs(
    layers: Sequence[LayerDescription],
    times: LayerTimes,
    *,
    micro_batch_rows: int,
    value_bytes: int,
    recompute: Recompute,
    message_seconds: Callable[[float], float],
    optimizer: str = "adamw",
    zero_stage: int = 0,
    num_replicas: int = 1,
) -> LayerCosts:
    """The times with what the layers hold and send.

    Args:
        layers: the whole model.
        times: of its layers.
        micro_batch_rows: rows of one micro-batch.
        value_bytes: of one value in the compute precision.
        recompute: what the backward computes again. With N layers at a time, a layer keeps its Nth part of an input,
            and a run the rest of its first one: what it really keeps where widths are equal and groups full.
        message_seconds: of a message of so many bytes.
        optimizer, zero_stage, num_replicas: for the state, as in `estimate_memory`.
    """
    rows = micro_batch_rows
    kept, begun, ended = _kept(layers, rows, value_bytes, recompute)
    crossing = [float(rows * value_bytes * layer.output_width) for layer in layers[:-1]]
    return LayerCosts(
        forward=times.forward,
        input_gradient=times.input_gradient,
        weight_gradient=times.weight_gradient,
        crossing_seconds=tuple(map(message_seconds, crossing)),
        kept_bytes=kept,
        pending_bytes=_pending(layers, rows, value_bytes),
        state_bytes=tuple(_state_bytes(layer, value_bytes, optimizer, zero_stage, num_replicas) for layer in layers),
        crossing_bytes=tuple(crossing),
        first_bytes=begun,
        last_bytes=ended,
    )


def _kept(
    layers: Sequence[LayerDescription], rows: int, value_bytes: int, recompute: Recompute
) -> tuple[tuple[float, ...], tuple[float, ...], tuple[float, ...]]:
    """What layers keep, and what a run keeps besides for its first and for its last layer (see `run_kept_bytes`)."""
    entering = [float(entering_bytes(layer, rows, value_bytes)) for layer in layers]
    none = [0.0] * len(layers)
    if recompute == "elementwise":
        products = tuple(float(rows * value_bytes * layer.product_values_per_row) for layer in layers)
        return products, tuple(entering), tuple(none)
    if recompute > 0:  # layers in front of the first trained one belong to its group
        in_front = next((index for index, layer in enumerate(layers) if layer.parameters), 0)
        share = [0.0 if index <= in_front else size / recompute for index, size in enumerate(entering)]
        return tuple(share), tuple(size - part for size, part in zip(entering, share, strict=True)), tuple(none)
    kept = [0.0 if layer.kind == "input" else float(kept_bytes(layer, rows, value_bytes)) for layer in layers]
    if _takes_the_batch(layers, value_bytes):
        kept[1] = max(0.0, kept[1] - entering[1])
    last = [float(rows * value_bytes * layer.output_width * layer.keeps_output) for layer in layers]
    last[-1] += rows * 4 * layers[-1].output_width  # the loss, in float32
    return tuple(kept), tuple(none), tuple(last)


def _pending(layers: Sequence[LayerDescription], rows: int, value_bytes: int) -> tuple[float, ...]:
    pending = [float(rows * value_bytes * layer.pending_values_per_row) for layer in layers]
    if _takes_the_batch(layers, value_bytes) and layers[1].input_is_pending:
        pending[1] = max(0.0, pending[1] - entering_bytes(layers[1], rows, value_bytes))
    return tuple(pending)


def _takes_the_batch(layers: Sequence[LayerDescription], value_bytes: int) -> bool:
    """Whether the first hidden layer's input is the batch itself, which is there anyway."""
    return len(layers) > 1 and layers[0].kind == "input" and not layers[0].parameters and value_bytes == 4


def _state_bytes(
    layer: LayerDescription,
    value_bytes: int,
    optimizer: str,
    zero_stage: int,
    num_replicas: int,
) -> float:
    """Parameters, gradients and optimizer, as the memory model counts them."""
    precision = "bf16" if value_bytes == 2 else "fp32"
    return float(sum(resting_state(layer.num_parameters, optimizer, precision, zero_stage, num_replicas)))
