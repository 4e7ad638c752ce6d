"""Measuring until it is enough, and a budget that ends first."""

from itertools import count

import pytest
import torch

from pipemlp.config.errors import ClusterError, RunFailedError
from pipemlp.planning.machine import Curve, Machine, Network
from pipemlp.planning.profile import Measurement, Profile
from pipemlp.profiling.layer_timing import Budget, Kind, measure_layers
from pipemlp.profiling.rounds import MOST_ROUNDS, Timing, measure, spread_of, timing_of
from pipemlp.profiling.together import Together
from pipemlp.training.profile_report import check_spread, spread_notes


class Alone(Together):
    """One rank, whose clock goes on only by what its layers say that they take."""

    def __init__(self) -> None:
        super().__init__(torch.device("cpu"))
        self.seconds = 0.0

    def now(self) -> float:
        return self.seconds


ALONE = Alone()


def test_blocks_of_rounds():
    blocks = measure(lambda: (1.0, 2.0), ALONE, 3)
    assert blocks == [(1.0, 2.0)] * 3
    assert timing_of(blocks) == Timing((1.0, 2.0), 0.0, 3)


def test_the_first_rounds_do_not_count():
    values = iter([100.0, 50.0] + [1.0] * 100)
    assert timing_of(measure(lambda: (next(values),), ALONE, 2)).phases == (1.0,)


def test_short_rounds_make_long_blocks():
    calls = count()
    measure(lambda: (float(next(calls) >= 0) * 1e-6,), ALONE, 2)
    assert next(calls) == 2 + 2 * MOST_ROUNDS


def test_a_busy_device_shows_in_the_spread():
    assert timing_of([(1.0,), (2.0,), (3.0,), (4.0,)]).spread > 0.3


@pytest.mark.parametrize(("values", "spread"), [([1.0], 0.0), ([], 0.0), ([0.0, 0.0], 0.0), ([1, 2, 3, 4, 5], 2 / 3)])
def test_spread(values, spread):
    assert spread_of(values) == pytest.approx(spread)


class Instant:
    """Layers that take `seconds` of that clock for every forward, and no time otherwise."""

    def __init__(self, seconds: float = 0.0) -> None:
        self.seconds = seconds

    def forward(self):
        ALONE.seconds += self.seconds
        return self

    def input_gradient(self, kept):
        assert kept is self

    def weight_gradient(self, kept):
        assert kept is self


class InstantBench:
    """Copies of a layer whose forward takes 1 ms, and running a unit 3 ms."""

    def __init__(self, copies: int) -> None:
        self.copies = copies

    def units(self, rows, *, again, chained):
        if chained:
            return [Instant(0.003 + 0.001 * self.copies)]
        return [Instant(0.004)] * self.copies

    def count_bytes(self, rows):
        return 100, 50


def measured(seconds: float, rows=(8, 4)):
    told, copies = [], (1, 5)
    found = measure_layers(
        [Kind("layer 1", copies[0], is_chained=False), Kind("layer 2", copies[1], is_chained=True)],
        rows,
        lambda kind: InstantBench(copies[kind]),
        ALONE,
        Budget(seconds),
        lambda text, fraction: told.append((text, fraction)),
    )
    return found, told


def test_every_kind_at_every_size():
    found, told = measured(60.0)
    assert [[each.rows for each in kind] for kind in found] == [[4, 8], [4, 8]]
    assert found[0][0].kept_bytes == 100 and found[0][0].pending_bytes == 50
    assert told[0] == ("layer 1, 8 rows", 0.0) and told[3][0] == "layer 2, 4 rows"


def test_what_running_a_unit_takes_is_no_part_of_a_layer():
    found, _ = measured(60.0)
    for kind in found:
        for measurement in kind:
            assert measurement.forward_seconds == pytest.approx(0.001)


def test_a_layer_too_slow_for_the_budget():
    with pytest.raises(RunFailedError) as caught:
        measured(0.0)
    text = "the time was too short: 0 of 2 kinds of layers are measured; the slowest, layer 1, takes"
    assert text in str(caught.value) and "--seconds" in str(caught.value)


def test_a_device_too_busy_to_say_anything():
    free = Network(Curve((0.0,), (0.0,)), Curve((0.0,), (0.0,)))
    machine = Machine("x", True, 1e9, free, free)

    def profile(*spreads):
        kinds = tuple((Measurement(8, 1.0, 1.0, 1.0, 1.0, 1.0, spread=own),) for own in spreads)
        return Profile(machine, kinds, (0, 1))

    check_spread(profile(0.5, 1.2))
    assert spread_notes(profile(0.1, 0.1)) == [] and "differed by 85%" in spread_notes(profile(0.5, 1.2))[0]
    with pytest.raises(ClusterError, match=r"is busy: repetitions differed by 150% .* no profile was written"):
        check_spread(profile(1.0, 2.0))
