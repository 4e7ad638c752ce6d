"""What is said of a plan adds up, and nothing on the front is beaten."""

from dataclasses import replace
from functools import cache
from itertools import pairwise

import pytest

from pipemlp.cli.plan_words import cut_text
from pipemlp.config.model import ModelConfig
from pipemlp.planning.analytic import AnalyticCosts
from pipemlp.planning.candidate import Candidate, sent_bytes
from pipemlp.planning.devices import DEVICES
from pipemlp.planning.explaining import (
    balance,
    best_of_kinds,
    deciding_parts,
    front,
    node_layout,
    parts_of,
    runner_up,
    stage_shares,
)
from pipemlp.planning.layers import describe_layers
from pipemlp.planning.making import Known, lay_out
from pipemlp.planning.remedies import describe
from pipemlp.planning.search import Found, search
from pipemlp.planning.shapes import DataShape
from pipemlp.planning.workload import Setting, Workload


@cache
def workload(precision: str = "fp32") -> Workload:
    model = ModelConfig.model_validate({"hidden": [256, 256, 64, 64, 64, 32], "norm": "layer"})
    layers = describe_layers(model, DataShape(100, (), 10, "classification", (1000, 0, 0)))
    return Workload(layers, 32, precision, "adamw", clips=True)


@cache
def found() -> Found:
    return search(workload(), 4, AnalyticCosts(workload(), DEVICES["cpu"]), memory_cap=1e12)


def laid_out(setting: Setting, precision: str = "fp32") -> Candidate:
    of = workload(precision)
    return Candidate(setting, lay_out(of, setting, Known(source=AnalyticCosts(of, DEVICES["cpu"]))), 1e12)


def test_parts_add_up_to_the_step():
    for each in found().ranking:
        assert sum(parts_of(each).values()) == pytest.approx(each.step_seconds, rel=1e-12)


def test_deciding_parts_are_those_that_differ():
    slow, fast = laid_out(Setting(4, 1, 1, 4, "gpipe")), laid_out(Setting(4, 1, 1, 4, "zb-h2"))
    less, more = deciding_parts(fast, slow)
    assert less == ["idle"] and more == []
    assert deciding_parts(slow, fast) == ([], ["idle"])
    assert deciding_parts(fast, fast) == ([], [])


def test_the_runner_up_is_of_another_kind():
    winner = found().ranking[0]
    other = runner_up(found(), winner)
    assert other is not None and other.step_seconds >= winner.step_seconds
    same = [each for each in found().ranking if each.step_seconds < other.step_seconds]
    assert {each.setting.num_stages for each in same} == {winner.setting.num_stages}
    assert runner_up(replace(found(), ranking=(winner,)), winner) is None


def test_nothing_on_the_front_is_beaten():
    members = front(found().ranking)
    assert members[0].step_seconds == found().ranking[0].step_seconds
    for one, other in pairwise(members):
        assert one.step_seconds < other.step_seconds and one.peak_bytes > other.peak_bytes
    for each in found().ranking:
        assert any(one.step_seconds <= each.step_seconds and one.peak_bytes <= each.peak_bytes for one in members)


def test_the_best_of_every_kind():
    winner = found().ranking[0]
    best = best_of_kinds(found(), winner)
    assert set(best["stages"]) == {1, 2, 4} and {0, 1} == set(best["zero_stage"])
    for values in best.values():
        assert min(each.step_seconds for each in values.values()) == winner.step_seconds
    assert all(each.setting.num_stages == winner.setting.num_stages for each in best["micro_batches"].values())


def test_stage_shares_hold_all_layers():
    shares = stage_shares(laid_out(Setting(2, 2, 1, 2, "zb-v")))
    assert sorted(pair for share in shares for pair in share.layers)[0][0] == 0
    assert sum(stop - start for share in shares for start, stop in share.layers) == len(workload().layers)
    assert 0.0 < balance(shares) <= 1.0
    assert balance(shares[:1]) == 1.0


@pytest.mark.parametrize(
    ("grid", "per_node", "stages_per_node", "crossing"),
    [
        ((4, 2), 8, 4, ()),
        ((4, 2), 4, 2, (1,)),
        ((4, 2), 2, 1, (0, 1, 2)),
        ((4, 1), 2, 2, (1,)),
        ((2, 4), 2, 0, (0,)),
        ((2, 3), 2, 0, (0,)),
        ((8, 1), 8, 8, ()),
    ],
)
def test_where_ranks_lie(grid, per_node, stages_per_node, crossing):
    layout = node_layout(*grid, per_node)
    assert (layout.stages_per_node, layout.crossing_cuts) == (stages_per_node, crossing)


def test_what_a_rank_sends():
    of = workload()
    pipeline = laid_out(Setting(2, 1, 1, 4, "1f1b", partition="uniform"))
    crossing = 4 * (32 // 4) * of.layers[3].output_width  # the first four of eight layers
    assert sent_bytes(of, pipeline.plan) == 4 * crossing
    num_parameters = sum(layer.num_parameters for layer in of.layers)
    alone = laid_out(Setting(1, 1, 4, 1, "1f1b"))
    assert sent_bytes(of, alone.plan) == pytest.approx(0.75 * 8 * num_parameters)
    sharded = laid_out(Setting(1, 1, 4, 1, "1f1b", zero_stage=1))
    assert sent_bytes(of, sharded.plan) == pytest.approx(0.75 * 12 * num_parameters)
    there_and_back = laid_out(Setting(2, 2, 1, 1, "zb-v", partition=(0, 2, 4, 6, 8)))
    widths = [of.layers[1].output_width, of.layers[5].output_width]  # nothing is sent at the turn
    assert sent_bytes(of, there_and_back.plan) == 4 * 32 * sum(widths)


def test_a_setting_in_words():
    assert describe(Setting()) == "1 stage x 1 replica, 1 micro-batch"
    setting = Setting(4, 2, 2, 8, "zb-v", 1, 3)
    assert describe(setting) == (
        "4 stages x 2 replicas, zb-v, 2 virtual stages each, 8 micro-batches, recompute every 3 layers, ZeRO 1"
    )


def test_how_good_the_cut_is():
    assert all(each.plan.distance is not None and each.plan.distance >= 0 for each in found().ranking)
    one = laid_out(Setting(num_stages=2))
    assert one.plan.distance == 0 and "no other has a faster" in cut_text(one)
    assert "at most 1.23% slower" in cut_text(replace(one, plan=replace(one.plan, distance=0.0123)))
    assert laid_out(Setting(num_stages=2, partition="uniform")).plan.distance is None
