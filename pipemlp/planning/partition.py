"""Where to cut the layers into stages: boundaries such as (0, 9, 18), one more than there are stages."""

from collections.abc import Sequence

from pipemlp.planning.layers import LayerDescription


def uniform_boundaries(num_layers: int, num_stages: int) -> tuple[int, ...]:
    """Equal numbers of layers; the first stages take what is left over."""
    size, extra = divmod(num_layers, num_stages)
    boundaries = [0]
    for stage in range(num_stages):
        boundaries.append(boundaries[-1] + size + (1 if stage < extra else 0))
    return tuple(boundaries)


def minimax_boundaries(weights: Sequence[int], num_stages: int) -> tuple[int, ...]:
    """The contiguous cut whose heaviest stage is as light as possible; exact.

    Searches the answer by bisection: a limit is feasible when a greedy sweep needs no more than
    `num_stages` stages. The sweep then runs from the end, so that ties leave more room at the last
    stage, which also holds the loss, and every stage keeps at least one weight above zero.

    Raises:
        ValueError: if there are fewer weights above zero than stages.
    """
    num_heavy = sum(1 for weight in weights if weight > 0)
    if not 1 <= num_stages <= num_heavy:
        raise ValueError(f"{num_stages} stages for {num_heavy} layers with parameters")
    low, high = max(weights), sum(weights)
    while low < high:
        middle = (low + high) // 2
        if _num_stages_needed(weights, middle) <= num_stages:
            high = middle
        else:
            low = middle + 1
    return _cut_from_the_end(weights, num_stages, low)


def _num_stages_needed(weights: Sequence[int], limit: int) -> int:
    count, load = 1, 0
    for weight in weights:
        if load + weight > limit:
            count, load = count + 1, 0
        load += weight
    return count


def _cut_from_the_end(weights: Sequence[int], num_stages: int, limit: int) -> tuple[int, ...]:
    heavy_before = [0]
    for weight in weights:
        heavy_before.append(heavy_before[-1] + (weight > 0))
    boundaries = [len(weights)]
    stop = len(weights)
    for stages_left in range(num_stages - 1, 0, -1):
        start, load = stop, 0
        while (
            start > 0
            and load + weights[start - 1] <= limit
            and heavy_before[start - 1] >= stages_left  # the stages in front need one heavy layer each
        ):
            start -= 1
            load += weights[start]
        boundaries.append(start)
        stop = start
    return (*reversed([*boundaries, 0]),)


def boundaries_for(
    partition: str | tuple[int, ...],
    layers: Sequence[LayerDescription],
    num_stages: int,
    num_virtual_stages: int = 1,
) -> tuple[int, ...]:
    """Boundaries of the virtual stages by name of the method, or the given ones.

    Args:
        partition: `uniform`, `parameters`, or the boundaries; where `balanced` cuts depends on costs (see `making`).
        layers: of the whole model.
        num_stages, num_virtual_stages: sizes.

    Raises:
        ValueError: with the rule and its arithmetic, if the cut is impossible.
    """
    check_sizes(layers, num_stages, num_virtual_stages)
    num_layers, depth = len(layers), num_stages * num_virtual_stages
    if isinstance(partition, str):
        if partition == "uniform":
            boundaries = uniform_boundaries(num_layers, depth)
        else:
            boundaries = minimax_boundaries([layer.num_parameters for layer in layers], depth)
    else:
        boundaries = partition
        _check_list(boundaries, num_layers, num_stages, num_virtual_stages)
    what = "stage" if num_virtual_stages == 1 else "virtual stage"
    for stage, (start, stop) in enumerate(zip(boundaries, boundaries[1:], strict=False)):
        if not any(layer.parameters for layer in layers[start:stop]):
            raise ValueError(
                f"{list(boundaries)} leaves {what} {stage} with layers {start}..{stop - 1} only, which have no "
                "parameters to train; give it at least one more layer"
            )
    return boundaries


def _check_list(boundaries: tuple[int, ...], num_layers: int, num_stages: int, num_virtual_stages: int) -> None:
    shown, depth = list(boundaries), num_stages * num_virtual_stages
    if len(boundaries) != depth + 1:
        product = "" if num_virtual_stages == 1 else f" x {num_virtual_stages} virtual stages"
        raise ValueError(
            f"{shown} has {len(boundaries)} boundaries, but {num_stages} stages{product} need {depth} + 1 = {depth + 1}"
        )
    if boundaries[0] != 0 or boundaries[-1] != num_layers:
        raise ValueError(
            f"{shown} must start with 0 and end with {num_layers}, the number of layers "
            "(input handling and the output head included)"
        )
    for left, right in zip(boundaries, boundaries[1:], strict=False):
        if left >= right:
            raise ValueError(f"{shown} must increase, but {right} follows {left}")


def check_sizes(layers: Sequence[LayerDescription], num_stages: int, num_virtual_stages: int) -> None:
    """Refuse more virtual stages than there are layers with parameters.

    Raises:
        ValueError: with the arithmetic, and the largest number of stages.
    """
    num_layers, depth = len(layers), num_stages * num_virtual_stages
    most = sum(1 for layer in layers if layer.parameters)
    if depth > most:
        without = "" if most == num_layers else f", {num_layers - most} of them without parameters"
        wanted = f"{num_stages} {'stage' if num_stages == 1 else 'stages'}"
        if num_virtual_stages > 1:
            wanted += f" x {num_virtual_stages} virtual stages = {depth}"
        remedy = f"use at most {most // num_virtual_stages}" if most >= num_virtual_stages else "use fewer"
        raise ValueError(f"{wanted} but the model has {num_layers} layers{without}; {remedy}")
