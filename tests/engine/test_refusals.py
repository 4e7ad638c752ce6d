"""A step that is not finite changes nothing, and says where it was lost."""

from dataclasses import replace

import pytest
import torch
from equality import Case
from refusal_bodies import LOST_STEP, changed_on_one_replica, of_steps, with_a_lost_step, with_an_infinite_loss

from pipemlp.config.gradients import GradientsConfig

SETTINGS = {
    "one process": Case(),
    "two stages": Case(stages=2),
    "clipped": Case(stages=2, clip_norm=0.1),
    "split backwards": Case(stages=2, order="zb-h1", block="residual"),
    "recomputed": Case(stages=2, recompute=1, block="gated"),
    "replicas": Case(replicas=2),
    "ZeRO 1": Case(replicas=2, zero_stage=1),
    "bf16": Case(stages=2, zero_stage=1),
    "ring": Case(replicas=2, gradients=GradientsConfig.model_validate({"pattern": "ring"})),
    "served": Case(
        stages=2, replicas=2, zero_stage=1, gradients=GradientsConfig.model_validate({"pattern": "parameter-server"})
    ),
    "local": Case(
        stages=2, replicas=2, gradients=GradientsConfig.model_validate({"update": {"name": "local", "local_steps": 9}})
    ),
}
LAYERS = {"output": 2, "gradient": 6}
PLACES = {
    "output": "the output of layer 2 is not finite (micro-batch 1, replica 0, stage 0)",
    "gradient": "the gradient of the output of layer 6 is not finite (micro-batch 1, replica 0, stage {last})",
}


def same(one: dict, other: dict) -> bool:
    return all(torch.equal(value, other[name]) for name, value in one.items())


@pytest.mark.parametrize("where", LAYERS)
@pytest.mark.parametrize("name", SETTINGS)
def test_a_lost_step_is_left_out(name, where, run_on_ranks):
    """The weights are to the bit those of the other steps; with `local`, on the replica that lost it."""
    case, precision = replace(SETTINGS[name], micro_batches=2, skips=True), "bf16" if name == "bf16" else "fp32"
    num_ranks = case.stages * case.replicas
    told = run_on_ranks(num_ranks, with_a_lost_step, case, precision, where, LAYERS[where], 1)
    expected = run_on_ranks(num_ranks, of_steps, case, precision, (0, 2, 3))
    every = run_on_ranks(num_ranks, of_steps, case, precision, (0, 1, 2, 3))
    place = PLACES[where].format(last=case.stages - 1)
    for rank, (steps, parameters) in enumerate(told):
        if name == "local" and rank % case.replicas:
            assert steps == [(None, None)] * 4 and same(parameters, every[rank])
        else:
            assert steps == [(None, None), (LOST_STEP, place), (None, None), (None, None)]
            assert same(parameters, expected[rank]) and not same(parameters, every[rank])


@pytest.mark.parametrize("where", LAYERS)
@pytest.mark.parametrize("name", ["one process", "two stages", "ZeRO 1", "served"])
def test_a_run_that_stops_knows_where(name, where, run_on_ranks):
    """Late where stages need not meet: all learn of it together, one step later."""
    case, precision = replace(SETTINGS[name], micro_batches=2), "bf16" if name == "bf16" else "fp32"
    num_ranks = case.stages * case.replicas
    told = run_on_ranks(num_ranks, with_a_lost_step, case, precision, where, LAYERS[where], 1)
    expected = run_on_ranks(num_ranks, of_steps, case, precision, (0,))
    place = PLACES[where].format(last=case.stages - 1)
    for rank, (steps, parameters) in enumerate(told):
        assert steps[-1] == (LOST_STEP, place) and len(steps) == (3 if name == "two stages" else 2)
        if where == "output":  # a stage behind the one where a backward was lost has taken its step
            assert same(parameters, expected[rank])


@pytest.mark.parametrize("settings", [{}, {"clip_norm": 0.1}, {"zero_stage": 1}], ids=str)
def test_what_only_the_last_stage_sees_stops_all(settings, run_on_ranks):
    """An infinite loss of finite gradients; clipping and ZeRO 1 would wait for a rank that stays away."""
    told = run_on_ranks(2, with_an_infinite_loss, Case(stages=2, micro_batches=2, **settings))
    assert told[0] == told[1]
    step, found, by_all = told[0]
    assert (step, found) == (LOST_STEP, "the loss is not finite (micro-batch 0, replica 0, stage 1)")
    assert by_all == bool(settings), "without them the first stage has taken the step"


@pytest.mark.parametrize(
    ("changed", "named"),
    [
        ("a bit of a weight", "the weights"),
        ("two weights", "the weights"),
        ("exp_avg_sq", "what the optimizer keeps"),
    ],
)
def test_replicas_that_have_come_apart_are_named(changed, named, run_on_ranks):
    for text in run_on_ranks(4, changed_on_one_replica, Case(stages=2, replicas=2, optimizer="adamw"), changed):
        assert text.startswith(f"{named} of stage 1 differ between replica 0 and 1 after step 2, though")
