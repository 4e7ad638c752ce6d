"""bfloat16 in forward and backward only: gradients are accumulated and reduced in float32, weights kept in it."""

from dataclasses import replace

import pytest
import torch
from bf16_bodies import Case, Trace, by_pipeline, in_one_process

CASES = [Case(replicas=1), Case(replicas=2), Case(replicas=2, order="zb-v", recompute="elementwise")]
SINGLE = 16 * 2**-24
"""Relative to a tensor's largest value: eight float32 additions in another order, and the scaling before them."""
HALF = 2**-9
"""What rounding to bfloat16 costs: half a unit in the last of 8 binary digits."""


def ids(case: Case) -> str:
    return f"2x{case.replicas}-{case.order}"


def deviation(value: torch.Tensor, expected: torch.Tensor) -> float:
    """Relative to the largest value."""
    return float((value - expected).abs().max() / expected.abs().max())


def whole(traces: list[Trace], kind: str, step: int) -> dict[str, torch.Tensor]:
    """Of all ranks together; replicas are bit-equal."""
    merged: dict[str, torch.Tensor] = {}
    for trace in traces:
        for name, value in getattr(trace, kind)[step].items():
            assert torch.equal(merged.setdefault(name, value), value)
    return merged


@pytest.fixture(scope="module")
def known() -> dict[Case, list[Trace]]:
    """What ranks have computed, for the tests to share."""
    return {}


@pytest.fixture
def traces(known, run_on_ranks):
    def trained(case: Case) -> list[Trace]:
        if case not in known:
            known[case] = run_on_ranks(2 * case.replicas, by_pipeline, case)
        return known[case]

    return trained


@pytest.mark.parametrize("case", CASES, ids=ids)
def test_gradients_are_sums_in_float32(traces, case):
    ours, expected = traces(case), in_one_process(case)
    gradients = whole(ours, "gradients", 0)
    assert gradients.keys() == expected.gradients[0].keys()
    for name, value in expected.gradients[0].items():
        assert gradients[name].dtype == torch.float32
        assert deviation(gradients[name], value) < SINGLE, name
    assert ours[-1].losses[0] == pytest.approx(expected.losses[0], rel=SINGLE)


@pytest.mark.parametrize("case", CASES, ids=ids)
def test_the_sum_is_rounded_neither_on_the_way_nor_at_the_end(traces, case):
    """Sums in bf16, and sums rounded to bf16 for the reduction, are much further away than ours."""
    gradients, expected = whole(traces(case), "gradients", 0), in_one_process(case).gradients[0]
    in_half = in_one_process(case, sums=torch.bfloat16).gradients[0]
    for name, value in expected.items():
        if value.numel() > 64:  # enough values that one of them is hit by rounding
            assert deviation(in_half[name], value) > 10 * SINGLE, name
            assert deviation(gradients[name].bfloat16().float(), value) > 10 * SINGLE, name


@pytest.mark.parametrize("case", CASES, ids=ids)
def test_weights_after_several_steps(traces, case):
    """A weight that lies just between two bf16 values may be rounded either way, so later gradients agree to bf16."""
    ours, expected = traces(case), in_one_process(case)
    for name, value in expected.weights[0].items():
        assert deviation(whole(ours, "weights", 0)[name], value) < SINGLE, name
    for step in range(case.num_steps):
        moved = whole(ours, "weights", step)
        for name, value in expected.weights[step].items():
            update = (value - expected.weights[0][name]).abs().max() if step else 0.0
            assert (moved[name] - value).abs().max() <= SINGLE * value.abs().max() + 8 * HALF * update, name


def test_many_small_equal_gradients_all_count(traces):
    """512 equal gradients: a bf16 sum has 8 binary digits and stops growing at 256 times the first."""
    case = Case(1, micro_batches=512, micro_batch_rows=1, num_steps=1, equal_rows=True, hidden=(4,), norm="none")
    one = in_one_process(replace(case, micro_batches=1))
    stuck = in_one_process(case, sums=torch.bfloat16)
    for name, value in whole(traces(case), "gradients", 0).items():
        assert deviation(value, one.gradients[0][name]) < 512 * 2**-24, name
        assert deviation(stuck.gradients[0][name], one.gradients[0][name]) > 0.25, name


@pytest.mark.parametrize("case", CASES, ids=ids)
def test_two_runs_are_bit_equal(traces, run_on_ranks, case):
    again = run_on_ranks(2 * case.replicas, by_pipeline, case)
    for one, other in zip(traces(case), again, strict=True):
        assert one.losses == other.losses
        for first, second in zip(one.gradients + one.weights, other.gradients + other.weights, strict=True):
            assert all(torch.equal(first[name], second[name]) for name in first)
