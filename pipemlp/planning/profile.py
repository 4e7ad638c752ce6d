"""A profile: what a model's layers, messages and steps took on a machine, as a source of costs for plans."""

from collections.abc import Sequence
from dataclasses import dataclass

from pipemlp.planning.layer_times import LayerTimes
from pipemlp.planning.layers import LayerDescription
from pipemlp.planning.machine import Curve, Machine
from pipemlp.planning.recompute import Recompute

LEFT_OUT = "sizes left out"
"""The fact that names the sizes of micro-batches for which the time was too short."""


@dataclass(frozen=True)
class Measurement:
    """One kind of layer at one size of micro-batches.

    Args:
        rows: of the micro-batch.
        forward_seconds, input_gradient_seconds, weight_gradient_seconds: as autograd keeps everything.
        bare_forward_seconds: of a forward that keeps nothing but the results of products.
        again_seconds: of an input gradient that first computes again all but the products.
        kept_bytes: from the forward to the input gradient.
        pending_bytes: from the input gradient to the weight gradient.
        alone_share: what it takes while the other ranks idle, as a share of what it takes beside them.
        spread: of the repetitions: the range of their middle half over their median.
        num_repetitions: how often it was measured, over all ranks.
    """

    rows: int
    forward_seconds: float
    input_gradient_seconds: float
    weight_gradient_seconds: float
    bare_forward_seconds: float
    again_seconds: float
    kept_bytes: int = 0
    pending_bytes: int = 0
    alone_share: float = 1.0
    spread: float = 0.0
    num_repetitions: int = 0

    @property
    def seconds(self) -> float:
        """Forward and both gradients."""
        return self.forward_seconds + self.input_gradient_seconds + self.weight_gradient_seconds


@dataclass(frozen=True)
class Profile:
    """What was measured, and of what.

    Args:
        machine: links, optimizer, actions and steps.
        kinds: for each kind of layer its measurements, by rising rows.
        kind_of_layer: for each layer its kind; -1 for input handling that takes no time of its own.
        facts: what the measurements hold for: device, versions, model, precision and so on, by name.
    """

    machine: Machine
    kinds: tuple[tuple[Measurement, ...], ...]
    kind_of_layer: tuple[int, ...]
    facts: tuple[tuple[str, str], ...] = ()

    def times(self, rows: int, recompute: Recompute) -> LayerTimes:
        """Seconds of one micro-batch; between two sizes that were measured, on a straight line."""
        nothing = (0.0, 0.0, 0.0, 1.0)
        of_kind = [_at(measurements, rows, recompute) for measurements in self.kinds]
        columns = zip(*(nothing if kind < 0 else of_kind[kind] for kind in self.kind_of_layer), strict=True)
        return LayerTimes(*columns)

    @property
    def spread(self) -> float:
        """How much repetitions differed: the range of their middle half over their median, weighted by their time."""
        each = [measurement for kind in self.kinds for measurement in kind]
        seconds = sum(measurement.seconds for measurement in each)
        return sum(measurement.seconds * measurement.spread for measurement in each) / seconds if seconds else 0.0

    @property
    def rows(self) -> tuple[int, ...]:
        """The sizes of micro-batches that were measured."""
        return tuple(measurement.rows for measurement in self.kinds[0])


def _at(measurements: Sequence[Measurement], rows: int, recompute: Recompute) -> tuple[float, float, float, float]:
    def value(name: str) -> float:
        sizes = tuple(float(each.rows) for each in measurements)
        return Curve(sizes, tuple(getattr(each, name) for each in measurements)).at(rows)

    def seconds(name: str) -> float:
        """With one size only, more rows take in proportion longer."""
        alone = len(measurements) == 1
        return value(f"{name}_seconds") * (max(1.0, rows / measurements[0].rows) if alone else 1.0)

    weight, alone = seconds("weight_gradient"), min(1.0, value("alone_share"))  # a line may lead beyond
    if recompute == 0:
        return seconds("forward"), seconds("input_gradient"), weight, alone
    forward, inward, bare = seconds("forward"), seconds("input_gradient"), seconds("bare_forward")
    if recompute == "elementwise":  # what is computed twice is no faster, whatever two measurements say
        return bare, max(seconds("again"), forward + inward - bare), weight, alone
    return bare, forward + inward, weight, alone


def kinds_of(layers: Sequence[LayerDescription]) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Which layers are alike: the kind of each layer, and of each kind its first layer.

    Layers are alike if all but their position is. The first layer with parameters is a kind of its own where its
    input needs no gradient, and takes the input handling before it along; the last has the loss.
    """
    first = next((index for index, layer in enumerate(layers) if layer.parameters), 0)
    known: dict[object, int] = {}
    kinds: list[int] = []
    firsts: list[int] = []
    for index, layer in enumerate(layers):
        if index < first:
            kinds.append(-1)
            continue
        special = "first" if index == first else "last" if layer is layers[-1] else ""
        key = (
            special,
            layer.kind,
            layer.input_width,
            layer.output_width,
            layer.activation,
            layer.norm,
            layer.dropout > 0,
            layer.options,
            tuple(parameter.shape for parameter in layer.parameters),
        )
        if key not in known:
            known[key] = len(firsts)
            firsts.append(index)
        kinds.append(known[key])
    return tuple(kinds), tuple(firsts)


def rows_to_measure(global_batch_rows: int, wanted: int, most: int = 7) -> tuple[int, ...]:
    """Sizes of micro-batches: the wanted one, the whole batch, and its halves, quarters and so on, rising.

    Args:
        global_batch_rows: no micro-batch has more.
        wanted: by the configuration.
        most: sizes to choose; beyond, every other one is left out, the largest and the smallest never.
    """
    sizes = [global_batch_rows]
    while sizes[-1] % 2 == 0 and len(sizes) < 2 * most:
        sizes.append(sizes[-1] // 2)
    if len(sizes) == 1 and global_batch_rows > 1:  # an odd batch: its divisors are few
        sizes += [size for size in range(global_batch_rows // 2, 0, -1) if global_batch_rows % size == 0]
    while len(sizes) > most:
        sizes = [size for index, size in enumerate(sizes) if index % 2 == 0 or index == len(sizes) - 1]
    return tuple(sorted({*sizes, wanted}))
