"""What is said beside a simulation: other schedules, links, and what zb-auto does with a free choice."""

import pytest

import pipemlp
from pipemlp.planning.exploring import explore
from pipemlp.planning.stage_costs import StageCosts


@pytest.mark.parametrize("hop", [0.0, 0.5, 1.0, 2.0])
@pytest.mark.parametrize("memory", [None, 4.0])
def test_no_other_schedule_is_faster_than_zb_auto(hop, memory):
    """Whatever their number of virtual stages: it chooses its own."""
    simulation = pipemlp.simulate("zb-auto", 4, 8, hop=hop, memory=memory)
    others = explore(simulation, StageCosts(hop=hop), memory).others
    assert len(others) >= 4
    assert simulation.makespan <= min(other.makespan for other in others) + 1e-9


def test_a_number_of_virtual_stages_is_held():
    for number in (1, 2):
        assert pipemlp.simulate("zb-auto", 4, 8, number, hop=2.0).schedule.num_virtual_stages == number


@pytest.mark.parametrize("forward", [1e-11, 1e-6, 1e11])
def test_uneven_costs_find_their_links(forward):
    costs = StageCosts(forward=forward)
    simulation = pipemlp.simulate("1f1b", 4, 8, forward=forward)
    assert explore(simulation, costs, compare=False).blocking_makespan >= simulation.makespan
