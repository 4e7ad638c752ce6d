"""What a backward computes again instead of keeping it."""

from collections.abc import Sequence
from typing import Literal

Recompute = int | Literal["elementwise"]
"""0: nothing; N: all of every N layers but their input; `elementwise`: all but the input and the products."""


def group_bounds(trained: Sequence[bool], recompute: Recompute) -> list[tuple[int, int]]:
    """Which layers of a run keep one input together: (first, one after the last) of each group.

    Args:
        trained: for each layer whether it has parameters. Layers without any in front of the others belong to the
            first group: alone they would pass on what needs no gradient.
        recompute: what is computed again.
    """
    if not isinstance(recompute, int) or recompute == 0:
        return [(0, len(trained))]
    in_front = next((index for index, has_parameters in enumerate(trained) if has_parameters), 0)
    edges = [0, *range(in_front + recompute, len(trained), recompute), len(trained)]
    return list(zip(edges, edges[1:], strict=False))
