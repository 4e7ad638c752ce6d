"""A checkpoint goes on bit for bit on the same grid, and on every other one as far as rounding allows."""

import pytest
import torch
from checkpoint_bodies import go_on, go_on_afresh, save, whole
from equality import Case
from torch import Tensor

from pipemlp.config.gradients import GradientsConfig

BF16 = "bf16"


def ranks_of(case: Case) -> int:
    return case.stages * case.replicas


def merged(each: list[dict[str, Tensor]]) -> dict[str, Tensor]:
    return {name: value for own in each for name, value in own.items()}


SAME = {
    "one process": (Case(single=True), "fp32"),
    "float64": (Case(stages=2, micro_batches=4), "fp32"),
    "1f1b, replicas": (Case(stages=2, replicas=2, micro_batches=4, single=True, dropout=0.2), "fp32"),
    "ZeRO 1": (Case(stages=2, replicas=2, micro_batches=4, zero_stage=1, clip_norm=0.1), "fp32"),
    "bf16": (Case(stages=2, replicas=2, micro_batches=4, zero_stage=1), BF16),
    "zb-v": (Case(stages=2, order="zb-v", micro_batches=4, single=True, dropout=0.2), "fp32"),
    "interleaved-zb, sgd": (Case(stages=2, order="interleaved-zb", micro_batches=4, optimizer="sgd"), "fp32"),
    "plain sgd": (Case(stages=2, micro_batches=2, optimizer="plain sgd", single=True), "fp32"),
}


@pytest.mark.parametrize("name", SAME)
def test_it_goes_on_bit_for_bit(name, run_on_ranks, tmp_path):
    case, precision = SAME[name]
    expected = run_on_ranks(ranks_of(case), whole, case, precision)
    begun = run_on_ranks(ranks_of(case), save, case, precision, tmp_path)
    ended = run_on_ranks(ranks_of(case), go_on, case, precision, tmp_path)
    for one, first, second in zip(expected, begun, ended, strict=True):
        assert first.losses + second.losses == one.losses
        assert all(torch.equal(value, second.parameters[key]) for key, value in one.parameters.items())


UPDATES = [
    {"pattern": "ring", "compression": {"name": "powersgd", "warmup_steps": 1}},
    {"pattern": "fully-connected", "compression": "onebit"},
    {"pattern": "parameter-server"},
    {"pattern": "parameter-server", "compression": {"name": "int8", "warmup_steps": 1}},
    {"update": {"name": "local", "local_steps": 2, "outer_momentum": 0.9}, "compression": "bf16"},
    {"update": {"name": "local", "local_steps": 2}, "pattern": "tree"},
]


@pytest.mark.parametrize("settings", UPDATES, ids=str)
def test_every_update_goes_on_bit_for_bit(settings, run_on_ranks, tmp_path):
    section = GradientsConfig.model_validate(settings)
    case = Case(stages=1, replicas=2, micro_batches=2, single=True, gradients=section)
    expected = run_on_ranks(2, whole, case, "fp32")
    begun = run_on_ranks(2, save, case, "fp32", tmp_path)
    ended = run_on_ranks(2, go_on, case, "fp32", tmp_path)
    for one, first, second in zip(expected, begun, ended, strict=True):
        assert first.losses + second.losses == one.losses
        assert all(torch.equal(value, second.parameters[key]) for key, value in one.parameters.items())


RESHAPED = {
    "two stages to one": (Case(stages=2, micro_batches=4), Case(micro_batches=4)),
    "one to two replicas": (Case(micro_batches=4), Case(replicas=2, micro_batches=2)),
    "two stages to two replicas": (Case(stages=2, micro_batches=4), Case(replicas=2, micro_batches=4)),
    "another cut": (Case(stages=2, micro_batches=4), Case(stages=2, micro_batches=4, cut="uneven")),
    "another placement": (Case(stages=2, order="zb-v", micro_batches=4), Case(stages=2, micro_batches=4)),
    "virtual stages": (Case(stages=2, micro_batches=4), Case(stages=2, order="interleaved-1f1b", micro_batches=4)),
    "2 x 2 to 4 x 1": (Case(stages=2, replicas=2, micro_batches=2), Case(stages=4, micro_batches=4)),
}
SINGLE = {
    "ZeRO 0 to 1": (Case(replicas=2, single=True), Case(replicas=2, zero_stage=1)),
    "ZeRO 1 to 0": (Case(replicas=2, zero_stage=1), Case(stages=2, single=True, micro_batches=4)),
    "ZeRO 1 of other replicas": (Case(stages=2, replicas=2, zero_stage=1), Case(replicas=4, zero_stage=1)),
    "ZeRO 1 to other stages": (Case(stages=1, replicas=2, zero_stage=1), Case(stages=2, replicas=2, zero_stage=1)),
}


@pytest.mark.parametrize("name", [*RESHAPED, *SINGLE])
def test_it_goes_on_with_another_grid(name, run_on_ranks, tmp_path):
    """In float64 as close as the equality tests; in float32 a few roundings of six steps of AdamW, eps 1e-3."""
    one, other = (RESHAPED | SINGLE)[name]
    expected = run_on_ranks(ranks_of(one), whole, one, "fp32")
    begun = run_on_ranks(ranks_of(one), save, one, "fp32", tmp_path)
    ended = run_on_ranks(ranks_of(other), go_on, other, "fp32", tmp_path)
    tolerance = 1e-12 if name in RESHAPED else 2e-6
    torch.testing.assert_close(begun[0].losses + ended[0].losses, expected[0].losses, rtol=tolerance, atol=0)
    wanted, found = merged([each.parameters for each in expected]), merged([each.parameters for each in ended])
    assert wanted.keys() == found.keys()
    for key, value in wanted.items():
        torch.testing.assert_close(found[key], value, rtol=0, atol=tolerance)


def test_bf16_on_another_grid(run_on_ranks, tmp_path):
    """The float32 copies are the same to the bit where the step is; what is computed is rounded to 2^-8."""
    one = Case(stages=2, replicas=2, micro_batches=2, zero_stage=1)
    other = Case(stages=1, replicas=2, micro_batches=4, zero_stage=1)
    expected = run_on_ranks(4, whole, one, BF16)
    run_on_ranks(4, save, one, BF16, tmp_path)
    ended = run_on_ranks(2, go_on, other, BF16, tmp_path)
    torch.testing.assert_close(ended[0].losses, expected[0].losses[3:], rtol=2**-6, atol=0)


@pytest.mark.parametrize("settings", [UPDATES[0], UPDATES[2], UPDATES[4]], ids=str)
def test_updates_go_on_with_another_grid(settings, run_on_ranks, tmp_path):
    """Residuals and averages begin anew; weights and the server's optimizer do not."""
    section = GradientsConfig.model_validate(settings)
    one = Case(replicas=2, micro_batches=2, single=True, gradients=section)
    other = Case(stages=2, replicas=2, micro_batches=2, single=True, gradients=section)
    begun = run_on_ranks(2, save, one, "fp32", tmp_path)
    ended = run_on_ranks(4, go_on, other, "fp32", tmp_path)
    whole_run = run_on_ranks(2, whole, one, "fp32")
    exact = "compression" not in settings and "update" not in settings
    torch.testing.assert_close(
        begun[0].losses + ended[0].losses, whole_run[0].losses, rtol=2e-6 if exact else 0.05, atol=0
    )


@pytest.mark.parametrize("precision", ["fp32", BF16])
def test_local_updates_begin_at_the_average_on_another_grid(precision, run_on_ranks, tmp_path):
    """To the bit as if they had never been elsewhere; nothing of the weights that the new pipeline was built with."""
    update = {"name": "local", "local_steps": 2, "outer_lr": 0.7, "outer_momentum": 0.9}
    section = GradientsConfig.model_validate({"update": update})
    zero = 1 if precision == BF16 else 0
    one = Case(replicas=2, micro_batches=2, single=True, gradients=section, zero_stage=zero)
    other = Case(stages=2, replicas=2, micro_batches=2, single=True, gradients=section, zero_stage=zero)
    begun = run_on_ranks(2, save, one, precision, tmp_path)
    expected = run_on_ranks(4, go_on_afresh, other, precision, tmp_path)
    ended = run_on_ranks(4, go_on, other, precision, tmp_path)
    for first, second in zip(expected, ended, strict=True):
        assert first.losses == second.losses
        assert all(torch.equal(value, second.parameters[key]) for key, value in first.parameters.items())
    # the first loss after it is that of the saved run's average: close to the last one before
    assert ended[0].losses[0] == pytest.approx(begun[0].losses[-1], rel=0.2)
