"""Who computes beside whom, and what that does to costs."""

import pytest
from priced_layers import WORKLOAD, Source

from pipemlp.planning.contention import overlaps, slowed
from pipemlp.planning.layer_times import LayerTimes
from pipemlp.planning.making import Known, lay_out
from pipemlp.planning.workload import Setting
from pipemlp.schedule.costs import uniform_costs
from pipemlp.schedule.methods import make_schedule
from pipemlp.schedule.simulate import simulate


def met(name: str, num_stages: int, num_micro_batches: int, num_replicas: int = 1):
    schedule = make_schedule(name, num_stages, num_micro_batches)
    costs = uniform_costs(num_stages, schedule.num_virtual_stages)
    return overlaps(simulate(schedule, costs), num_replicas)


def test_one_micro_batch_meets_nobody():
    assert set(met("gpipe", 3, 1).values()) == {0.0}


def test_replicas_always_meet_each_other():
    assert set(met("gpipe", 1, 4, num_replicas=3).values()) == {1.0}
    assert set(met("gpipe", 2, 1, num_replicas=2).values()) == {1 / 3}  # its own replica, of three other ranks


def test_a_rank_alone_meets_nobody():
    assert set(met("gpipe", 1, 4).values()) == {0.0}


def test_two_stages():
    # stage 0   F0 F1 F2 .. .. B0 B0 B1 B1 B2 B2      gpipe, three micro-batches, a unit each of F, I and W
    # stage 1   .. F0 F1 F2 B0 B0 B1 B1 B2 B2 ..      (the last B of stage 0 has half of itself beside nothing)
    found = met("gpipe", 2, 3)
    assert found[0, "F"] == pytest.approx(2 / 3) and found[1, "F"] == pytest.approx(2 / 3)
    assert found[0, "I"] == found[0, "W"] == pytest.approx(4 / 6)


@pytest.mark.parametrize(("overlap", "expected"), [(0.0, [1.0, 4.0]), (1.0, [2.0, 4.0]), (0.5, [1.5, 4.0])])
def test_slowed(overlap, expected):
    assert slowed((2.0, 4.0), (0.5, 1.0), overlap) == expected
    assert slowed((2.0, 4.0), (), overlap) == [2.0, 4.0]


def test_a_plan_takes_it_into_account():
    class Shared(Source):
        def times(self, rows, recompute):
            times = super().times(rows, recompute)
            return LayerTimes(times.forward, times.input_gradient, times.weight_gradient, (0.5,) * 8)

    def seconds(source, **setting):
        return lay_out(WORKLOAD, Setting(**setting), Known(source=source)).prediction.pipeline_seconds

    one_by_one = {"num_stages": 2, "num_micro_batches": 1, "partition": (0, 4, 8)}
    assert seconds(Shared(), **one_by_one) == pytest.approx(0.5 * seconds(Source(), **one_by_one))
    together = {"num_replicas": 2, "num_micro_batches": 2}
    assert seconds(Shared(), **together) == seconds(Source(), **together)
    between = {"num_stages": 2, "num_micro_batches": 16, "partition": (0, 4, 8)}
    assert 0.75 < seconds(Shared(), **between) / seconds(Source(), **between) < 1.0
