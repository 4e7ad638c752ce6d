"""Costs of a schedule's actions from the layer descriptions: floating-point operations, and bytes kept.

Seconds are those of a device that does 10^12 operations per second and moves tensors at no cost: what counts is
their proportion. Bytes are what the executor keeps, tensor by tensor.
"""

from collections.abc import Sequence

from pipemlp.planning.layers import LayerDescription, kept_bytes
from pipemlp.planning.recompute import Recompute, group_bounds
from pipemlp.schedule.costs import Costs

NOMINAL_FLOPS_PER_SECOND = 1e12


def analytic_costs(
    layers: Sequence[LayerDescription],
    boundaries: Sequence[int],
    *,
    micro_batch_rows: int,
    value_bytes: int,
    recompute: Recompute,
) -> Costs:
    """Costs of one micro-batch on each virtual stage.

    Args:
        layers: the whole model.
        boundaries: of the virtual stages.
        micro_batch_rows: rows of one micro-batch.
        value_bytes: of one value in the compute precision.
        recompute: what the backward computes again.
    """
    runs = [layers[start:stop] for start, stop in zip(boundaries, boundaries[1:], strict=False)]
    first = next(layer.index for layer in layers if layer.parameters)
    per_flop = micro_batch_rows / NOMINAL_FLOPS_PER_SECOND
    again = isinstance(recompute, int) and recompute > 0
    forward = [per_flop * sum(layer.forward_flops_per_row for layer in run) for run in runs]
    inward = [per_flop * sum(_input_gradient_flops(layer, first) for layer in run) for run in runs]
    crossing = [float(micro_batch_rows * value_bytes * run[0].input_width) for run in runs[1:]]
    kept = [run_kept_bytes(run, micro_batch_rows, value_bytes, recompute) for run in runs]
    if recompute == 0:
        kept[-1] += micro_batch_rows * 4 * layers[-1].output_width  # what the loss keeps, in float32
    return Costs(
        forward=tuple(forward),
        input_gradient=tuple(gradient + (again * whole) for gradient, whole in zip(inward, forward, strict=True)),
        weight_gradient=tuple(forward),
        hop=(0.0,) * len(crossing),
        kept_bytes=tuple(map(float, kept)),
        pending_bytes=tuple(float(_pending_bytes(run, micro_batch_rows, value_bytes)) for run in runs),
        hop_bytes=tuple(crossing),
        shared_bytes=tuple(
            size if recompute == 0 and run[-1].keeps_output else 0.0 for run, size in zip(runs, crossing, strict=False)
        ),
    )


def _input_gradient_flops(layer: LayerDescription, first: int) -> int:
    """As many as the forward has, but for products over the model's own input, which needs no gradient."""
    if layer.index != first or layer.kind == "input":
        return layer.forward_flops_per_row
    over_input = [p.shape for p in layer.parameters if len(p.shape) == 2 and p.shape[1] == layer.input_width]
    return layer.forward_flops_per_row - sum(2 * rows * columns for rows, columns in over_input)


def run_kept_bytes(run: Sequence[LayerDescription], rows: int, value_bytes: int, recompute: Recompute) -> int:
    """What a virtual stage keeps between the forward and the backward of one micro-batch."""
    if recompute == 0:
        own_output = rows * value_bytes * run[-1].output_width if run[-1].keeps_output else 0
        own = sum(kept_bytes(layer, rows, value_bytes) for layer in run if layer.kind != "input") + own_output
        keeps_input = len(run) > 1 and run[1].kept_values_per_row >= run[1].input_width
        return own - (_batch_bytes(run, rows, value_bytes) if keeps_input else 0)
    if recompute == "elementwise":
        products = sum(layer.product_values_per_row for layer in run)
        return entering_bytes(run[0], rows, value_bytes) + rows * value_bytes * products
    bounds = group_bounds([bool(layer.parameters) for layer in run], recompute)
    return sum(entering_bytes(run[start], rows, value_bytes) for start, _ in bounds)


def _pending_bytes(run: Sequence[LayerDescription], rows: int, value_bytes: int) -> int:
    """What waits for the weight gradients: each product's input, and the gradient of its result."""
    own = rows * value_bytes * sum(layer.pending_values_per_row for layer in run)
    from_batch = len(run) > 1 and run[1].input_is_pending
    return own - (_batch_bytes(run, rows, value_bytes) if from_batch else 0)


def entering_bytes(layer: LayerDescription, rows: int, value_bytes: int) -> int:
    """The input of a layer; that of the input layer is the batch, which is there anyway."""
    return 0 if layer.kind == "input" else rows * value_bytes * layer.input_width


def _batch_bytes(run: Sequence[LayerDescription], rows: int, value_bytes: int) -> int:
    """What the first hidden layer takes from the batch as it is: float32 numbers that no embedding stands beside."""
    as_it_is = run[0].kind == "input" and not run[0].parameters and value_bytes == 4
    return entering_bytes(run[1], rows, value_bytes) if as_it_is else 0
