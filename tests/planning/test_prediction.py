"""A step's time from its parts, against what can be worked out by hand."""

from dataclasses import replace

import pytest
from priced_layers import PER_SECOND, WORKLOAD, Source

from pipemlp.planning.exchange import Exchange
from pipemlp.planning.layer_times import LayerTimes
from pipemlp.planning.machine import Curve, Network
from pipemlp.planning.making import Known, lay_out
from pipemlp.planning.recompute import Recompute
from pipemlp.planning.workload import Setting


def predicted(setting: Setting, **machine):
    return lay_out(WORKLOAD, setting, Known(source=Source(**machine))).prediction


def test_one_rank():
    found = predicted(Setting(num_micro_batches=2), step_seconds=0.5, optimizer_seconds=1e-3)
    assert found.pipeline_seconds == pytest.approx(2 * 7 * 3)
    assert found.other_seconds == 0.5
    assert found.optimizer_seconds == pytest.approx(1e-3 * sum(layer.num_parameters for layer in WORKLOAD.layers))
    assert found.reduction_seconds == 0.0 and found.bubble_fraction == 0.0
    assert found.step_seconds == sum(
        (found.pipeline_seconds, found.optimizer_seconds, found.other_seconds, found.reduction_seconds)
    )


def test_a_pipeline_has_a_bubble():
    found = predicted(Setting(num_stages=2, num_micro_batches=4, partition=(0, 4, 8)))
    assert found.pipeline_seconds == pytest.approx(4 * 12 + 3 * 3)  # the slower stage, and the other's fill and drain
    assert found.bubbles == pytest.approx((1 - 36 / 57, 1 - 48 / 57))


def test_stages_that_do_not_meet_begin_the_next_step_at_once():
    setting = Setting(num_stages=2, num_micro_batches=8, schedule="zb-h2", partition=(0, 4, 8))
    apart = predicted(setting)
    assert apart.pipeline_seconds == pytest.approx(8 * 12)
    meeting = lay_out(replace(WORKLOAD, clips=True), setting, Known(source=Source())).prediction
    assert meeting.pipeline_seconds == pytest.approx(8 * 12 + 3)  # the second stage begins after the first's forward


def test_actions_and_messages():
    plain = predicted(Setting(num_stages=2, partition=(0, 4, 8)))
    dearer = predicted(
        Setting(num_stages=2, partition=(0, 4, 8)), action_seconds=(0.1, 0.2, 0.3), overhead_seconds=0.01
    )
    assert dearer.pipeline_seconds - plain.pipeline_seconds == pytest.approx(2 * 0.6 + 4 * 0.01)
    hops = predicted(Setting(num_stages=2, partition=(0, 4, 8)), inside=PER_SECOND)
    assert hops.pipeline_seconds - plain.pipeline_seconds == pytest.approx(2 * 64 * 8 * 4)


def test_reductions_are_hidden_on_a_gpu_only_behind_what_follows():
    setting = Setting(num_replicas=2)
    num_bytes = 4 * sum(layer.num_parameters for layer in WORKLOAD.layers)
    for hides in (True, False):  # one bucket: nothing comes behind
        assert predicted(setting, inside=PER_SECOND, is_gpu=hides).reduction_seconds == pytest.approx(num_bytes)


def test_what_parameter_servers_send_back_is_never_hidden(monkeypatch):
    monkeypatch.setattr("pipemlp.planning.exchange.BUCKET_BYTES", 64)
    link = Curve((0.0, 1000.0), (0.0, 1.0))
    source = Source(inside=Network(link, link), is_gpu=True)
    num_bytes = 4 * sum(layer.num_parameters for layer in WORKLOAD.layers)
    for pattern, exposed in (("ring", 64), ("parameter-server", num_bytes / 2 + 64 / 2)):
        workload = replace(WORKLOAD, exchange=Exchange(pattern=pattern))
        found = lay_out(workload, Setting(num_replicas=2), Known(source=source)).prediction
        # the backward, much longer than the push, hides it up to its last bucket
        assert found.reduction_seconds == pytest.approx(1e-3 * exposed)


def test_zero_1_shares_the_optimizer_and_gathers():
    num_parameters = sum(layer.num_parameters for layer in WORKLOAD.layers)
    whole, shared = (
        predicted(Setting(num_replicas=2, zero_stage=zero), optimizer_seconds=1.0, inside=PER_SECOND) for zero in (0, 1)
    )
    assert whole.optimizer_seconds == pytest.approx(num_parameters)
    assert shared.optimizer_seconds == pytest.approx(num_parameters / 2 + 4 * num_parameters / 2)


def test_the_slowest_stage_counts():
    cut = Setting(num_stages=2, partition=(0, 2, 8))
    sizes = [sum(layer.num_parameters for layer in WORKLOAD.layers[start:stop]) for start, stop in ((0, 2), (2, 8))]
    assert predicted(cut, optimizer_seconds=1.0).optimizer_seconds == pytest.approx(max(sizes))


def test_balanced_cuts_by_the_costs():
    plan = lay_out(WORKLOAD, Setting(num_stages=2), Known(source=Source()))
    assert plan.boundaries in ((0, 4, 8), (0, 5, 8))


class SlowEnd(Source):
    """The last layer takes four times as long."""

    def times(self, rows: int, recompute: Recompute) -> LayerTimes:
        seconds = (0.0, *(1.0,) * 6, 4.0)
        return LayerTimes(seconds, seconds, seconds)


def test_a_cap_moves_the_cut():
    setting = Setting(num_stages=2, num_micro_batches=8)
    free = lay_out(WORKLOAD, setting, Known(source=SlowEnd()))
    assert free.boundaries == (0, 6, 8)
    peaks = [memory.total_bytes for memory in free.memory]
    capped = lay_out(WORKLOAD, setting, Known(source=SlowEnd(), memory_cap=0.9 * max(peaks)))
    assert max(memory.total_bytes for memory in capped.memory) <= 0.9 * max(peaks)
    assert capped.boundaries[1] < 6


def test_a_cap_that_nothing_keeps_leaves_the_plan_as_it_is():
    setting = Setting(num_stages=2)
    assert lay_out(WORKLOAD, setting, Known(source=Source(), memory_cap=1.0)) == lay_out(
        WORKLOAD, setting, Known(source=Source())
    )
