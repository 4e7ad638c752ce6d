"""Measuring until it is enough, and a budget that ends first."""

from itertools import count

import pytest
import torch

from pipemlp.config.errors import ClusterError, RunFailedError
from pipemlp.planning.machine import Curve, Machine, Network
from pipemlp.planning.profile import Measurement, Profile
from pipemlp.profiling import rounds
from pipemlp.profiling.layer_timing import Budget, Kind, less_single_costs, measure_layers, single_costs
from pipemlp.profiling.rounds import Effort, measure, spread_of
from pipemlp.profiling.together import Together
from pipemlp.training.profile_report import check_spread, spread_notes

ALONE = Together(torch.device("cpu"))


def test_steady_values_are_enough_at_once():
    timing = measure(lambda: (1.0, 2.0), ALONE, Effort(fewest=3, rounds=4))
    assert timing.phases == (1.0, 2.0) and timing.spread == 0.0 and timing.num_rounds == 12


def test_the_first_round_does_not_count():
    values = iter([100.0] + [1.0] * 100)
    assert measure(lambda: (next(values),), ALONE, Effort()).phases == (1.0,)


def test_a_busy_device_shows_in_the_spread():
    numbers = count()
    timing = measure(lambda: (1.0 + (next(numbers) - 1) // 2 % 4,), ALONE, Effort(rounds=2, most=8, seconds=60))
    assert timing.num_rounds == 16 and timing.spread > 0.3


def test_late_is_late_but_not_before_the_fewest(monkeypatch):
    clock = count(step=10)
    monkeypatch.setattr(rounds.time, "perf_counter", lambda: next(clock))
    numbers = count()
    assert measure(lambda: (float(next(numbers)),), ALONE, Effort(seconds=1, fewest=3, rounds=1)).num_rounds == 3


@pytest.mark.parametrize(("values", "spread"), [([1.0], 0.0), ([], 0.0), ([0.0, 0.0], 0.0), ([1, 2, 3, 4, 5], 2 / 3)])
def test_spread(values, spread):
    assert spread_of(values) == pytest.approx(spread)


class Instant:
    """A layer that takes no time."""

    def forward(self):
        return self

    def input_gradient(self, kept):
        assert kept is self

    def weight_gradient(self, kept):
        assert kept is self


def measured(seconds: float, rows=(8, 4)):
    told = []
    found = measure_layers(
        [Kind("layer 1", 1, 10), Kind("layer 2", 3, 10)],
        rows,
        lambda kind, rows, again, copies: [Instant() for _ in range(copies)],
        lambda unit: (100, 50),
        ALONE,
        Budget(seconds),
        lambda text, fraction: told.append((text, fraction)),
    )
    return found, told


def test_every_kind_at_every_size():
    found, told = measured(60.0)
    assert [[each.rows for each in kind] for kind in found] == [[4, 8], [4, 8]]
    assert found[0][0].kept_bytes == 100 and found[0][0].pending_bytes == 50
    assert told[0] == ("layer 1, 8 rows", 0.0) and told[-1] == ("layer 2, 4 rows", 0.75)


def test_a_layer_too_slow_for_the_budget():
    with pytest.raises(RunFailedError) as caught:
        measured(0.0)
    text = "0 s were not enough: 0 of 2 kinds of layers are measured at 8 rows; the slowest, layer 1, takes"
    assert text in str(caught.value) and "--seconds" in str(caught.value)


def test_costs_of_being_alone_are_taken_off():
    found, _ = measured(60.0)
    one = found[0][0]
    slow = one.__class__(**(one.__dict__ | {"forward_seconds": 1.0, "bare_forward_seconds": 0.5}))
    less = less_single_costs(slow, (0.25, 0.0, 0.0))
    assert (less.forward_seconds, less.bare_forward_seconds) == (0.75, 0.25)
    assert less_single_costs(slow, (2.0, 0.0, 0.0)).forward_seconds == pytest.approx(0.1)  # something is its own


def test_a_chain_tells_the_costs_of_being_alone():
    found, _ = measured(60.0)
    slow = tuple(tuple(each.__class__(**(each.__dict__ | {"forward_seconds": 1.0})) for each in kind) for kind in found)
    forward, inward, weight = single_costs(lambda rows: ([0, 1, 1], Instant()), slow, ALONE, Effort(most=3))
    assert forward == pytest.approx(3 / 2, rel=0.01) and inward < 0.1 and weight < 0.1


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
