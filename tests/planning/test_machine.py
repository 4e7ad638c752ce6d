"""Curves, reductions and which ranks share a node."""

import pytest

from pipemlp.planning.devices import DEVICES, Link
from pipemlp.planning.machine import Curve, Machine, Network, curve_of

LINE = Curve((100.0, 200.0, 400.0), (1.0, 2.0, 3.0))


@pytest.mark.parametrize(
    ("size", "seconds"), [(0, 1.0), (100, 1.0), (150, 1.5), (200, 2.0), (300, 2.5), (400, 3.0), (800, 5.0)]
)
def test_curve(size, seconds):
    assert LINE.at(size) == pytest.approx(seconds)


def test_a_single_size_holds_for_all():
    assert Curve((8.0,), (0.5,)).at(10**9) == 0.5


def test_a_falling_curve_does_not_go_on_falling():
    assert Curve((1.0, 2.0), (3.0, 2.0)).at(100.0) == 3.0


def test_a_link_is_a_line():
    link = Link(bytes_per_second=1e9, latency_seconds=1e-5)
    assert curve_of(link).at(2e9) == pytest.approx(link.seconds(2e9))
    assert curve_of(link).at(0) == pytest.approx(1e-5)


def test_all_reduce_is_a_ring():
    line = curve_of(Link(1e9, 0.0))
    network = Network(line, line, turn_seconds=1e-3)
    assert network.all_reduce_seconds(4e9, 1) == 0.0
    assert network.all_reduce_seconds(4e9, 4) == pytest.approx(2 * 3 / 4 * 4 + 6e-3)


def test_nodes():
    line = Network(curve_of(DEVICES["cpu"].inside_node), curve_of(DEVICES["cpu"].inside_node))
    other = Network(curve_of(DEVICES["cpu"].between_nodes), curve_of(DEVICES["cpu"].between_nodes))
    machine = Machine("x", False, 1e9, inside=line, between=other, ranks_per_node=4)
    assert machine.network_of_replicas(0, 4) is line  # ranks 0..3
    assert machine.network_of_replicas(0, 8) is other
    assert machine.network_of_cut(0, 1, 2) is line  # ranks 0, 1 -> 2, 3
    assert machine.network_of_cut(1, 2, 2) is other  # ranks 2, 3 -> 4, 5
    assert machine.network_of_cut(0, 3, 1) is line
