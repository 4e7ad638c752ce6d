"""From a step's events to what a pipeline adds: simulated steps give back what they were simulated with."""

from dataclasses import replace

import pytest

from pipemlp.profiling.rehearsal import RankStep, Rehearsal, action_costs, step_seconds
from pipemlp.schedule.costs import Costs, uniform_costs
from pipemlp.schedule.measured import Event, measured_of
from pipemlp.schedule.methods import make_schedule
from pipemlp.schedule.simulate import simulate

TAIL = 0.25


def rehearsal(costs: Costs, alone: dict, num_parameters: int = 100, tail: float = TAIL) -> Rehearsal:
    """Two equal steps of zb-h1 over two stages."""
    simulation = simulate(make_schedule("zb-h1", 2, 5), costs)
    events = measured_of(simulation).computations
    step = [RankStep(0.0, simulation.makespan + tail, own) for own in events]
    return Rehearsal(alone, num_parameters, 1.0, [step, step])


def costs(unit: float, besides: float = 0.0) -> Costs:
    equal = uniform_costs(2, 1, forward=unit, input_gradient=2 * unit, weight_gradient=unit, hop=0.125)
    seconds = {
        name: tuple(besides + value for value in getattr(equal, name))
        for name in ("forward", "input_gradient", "weight_gradient")
    }
    return replace(equal, **seconds)


def alone(unit: float) -> dict:
    return {"F": (unit, unit), "I": (2 * unit, 2 * unit), "W": (unit, unit)}


def test_what_an_action_takes_besides():
    found = action_costs([rehearsal(costs(1.0, 0.25), alone(1.0)), rehearsal(costs(4.0, 0.25), alone(4.0))])
    for besides, factor in found.values():
        assert (besides, factor) == pytest.approx((0.25, 1.0))


def test_a_factor_where_the_models_differ_enough():
    found = action_costs([rehearsal(costs(1.1, 0.25), alone(1.0)), rehearsal(costs(4.4, 0.25), alone(4.0))])
    assert found["F"] == pytest.approx((0.25, 1.1))


def test_no_factor_from_one_model():
    assert action_costs([rehearsal(costs(1.2), alone(1.0))])["F"] == pytest.approx((0.2, 1.0))


def test_faster_than_alone_costs_nothing():
    assert action_costs([rehearsal(costs(0.9), alone(1.0))])["W"] == (0.0, 1.0)


def test_hop_and_overhead():
    run = rehearsal(costs(1.0), alone(1.0))
    assert run.hop() == pytest.approx(0.125)
    assert run.overhead() == pytest.approx(0.0)
    gaps = rehearsal(costs(1.0), alone(1.0))
    shifted = [
        [RankStep(rank.started, rank.ended, tuple(_later(rank.events, 0.01))) for rank in step] for step in gaps.steps
    ]
    assert replace(gaps, steps=shifted).overhead() == pytest.approx(0.01, rel=0.15)


def _later(events, gap):
    """Every event later by one more gap, as if something stood between two of them."""
    return [Event(e.action, e.start + index * gap, e.end + index * gap, e.waited) for index, e in enumerate(events)]


def test_a_step_is_the_tail_without_the_optimizer():
    small, large = (rehearsal(costs(1.0), alone(1.0), n, 0.1 + 0.001 * n) for n in (100, 400))
    assert step_seconds([large, small], 0.001) == pytest.approx(0.1)
    assert step_seconds([large, small], 1.0) == 0
