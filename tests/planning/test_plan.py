"""The plan of a configuration: its schedule, and what the schedule may hold."""

import pytest

from pipemlp.config.parallel import SCHEDULES
from pipemlp.config.root import RunConfig
from pipemlp.planning.layers import describe_layers
from pipemlp.planning.making import make_plan
from pipemlp.planning.plan import Plan
from pipemlp.planning.resolve import resolve
from pipemlp.planning.shapes import DataShape
from pipemlp.schedule.methods import METHODS
from pipemlp.schedule.simulate import simulate

SHAPE = DataShape(64, (), 10, "classification", (4096, 0, 0))


def plan_of(schedule: str, hidden: list[int], stages: int = 4, **parallel) -> Plan:
    sections = {
        "data": {"source": "digits"},
        "model": {"hidden": hidden},
        "training": {"global_batch_size": 64},
        "parallel": {"stages": stages, "micro_batches": 8, "schedule": schedule, **parallel},
    }
    config, _ = resolve(RunConfig.model_validate(sections), SHAPE)
    return make_plan(config, describe_layers(config.model, SHAPE))


def test_the_configuration_knows_the_schedules_there_are():
    assert tuple(METHODS) == SCHEDULES


@pytest.mark.parametrize("hidden", [[64] * 14, [256, 192, 128, 96] * 4, [32] * 12 + [512, 512]])
@pytest.mark.parametrize(("virtual_stages", "usual"), [(1, "zb-h1"), (2, "zb-v")])
def test_zb_auto_holds_no_more_than_the_usual_schedule_and_is_as_fast(hidden, virtual_stages, usual):
    plans = [plan_of(name, hidden, virtual_stages=virtual_stages) for name in ("zb-auto", usual)]
    own, other = (simulate(plan.schedule, plan.costs) for plan in plans)
    assert max(own.peak_bytes) <= max(other.peak_bytes)
    assert own.makespan <= other.makespan


@pytest.mark.parametrize("virtual_stages", [1, 2])
def test_a_single_micro_batch_has_an_order(virtual_stages):
    plan = plan_of("zb-auto", [8, 512, 8], stages=2, micro_batches=1, virtual_stages=virtual_stages)
    assert len({action.virtual_stage for row in plan.schedule.actions for action in row}) == 2 * virtual_stages
