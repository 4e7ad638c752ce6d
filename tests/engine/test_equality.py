"""The pipeline computes what one process computes, however the layers are cut and the batch is sliced."""

from dataclasses import replace
from itertools import combinations, product

import pytest
import torch
from covering import pairs_of, pairwise
from equality import NUM_STEPS, Case, Trace, pipeline_trace, reference

NAMED = {
    "stages": (1, 2, 4),
    "replicas": (1, 2),
    "zero_stage": (0, 1),
    "micro_batches": (1, 4, 6),
    "recompute": (0, 2),
    "block": ("plain", "residual", "gated"),
    "dropout": (0.0, 0.3),
}
OTHERS = {
    "cut": ("parameters", "uniform", "uneven"),
    "ragged": (False, True),
    "clip_norm": (None, 0.05),
    "optimizer": ("adamw", "sgd"),
    "loss": ("cross_entropy", "weighted"),
}
FACTORS = NAMED | OTHERS
COVER = [Case(**choice) for choice in pairwise(FACTORS)]
ROTATION = pairwise(OTHERS)
FULL = [
    Case(**dict(zip(NAMED, values, strict=True)), **ROTATION[index % len(ROTATION)])
    for index, values in enumerate(product(*NAMED.values()))
]

EXACT = 1e-12
"""float64: seven layers of sums of some fifty terms of order one round to about 1e-14."""
CLIPPED = 2e-7
"""DeepSpeed forms the norm in float32, so that the factor, and the update with it, is off by up to 2^-23."""
SINGLE = NUM_STEPS * 7 * 48**0.5 * 2**-24
"""float32: each step passes seven layers of sums of up to 48 terms, whose rounding errors add like a random walk."""
AMPLIFIED = 8
"""float32: norms and steps amplify rounding; by how much in a case, the one process itself shows against float64.
Two float32 computations differ by no more than a few times that."""


def case_id(case: Case) -> str:
    parts = [f"{case.stages}x{case.replicas}", f"z{case.zero_stage}", f"m{case.micro_batches}", case.block, case.cut]
    parts += [f"recompute{case.recompute}"] * (case.recompute > 0) + ["dropout"] * (case.dropout > 0)
    parts += ["ragged"] * case.ragged + ["clip"] * (case.clip_norm is not None) + [case.optimizer, case.loss]
    return "-".join(parts)


def test_every_pair_of_values_meets_in_the_cover():
    met = {
        ((a, FACTORS[a].index(getattr(case, a))), (b, FACTORS[b].index(getattr(case, b))))
        for case in COVER
        for a, b in combinations(FACTORS, 2)
    }
    assert met == pairs_of(FACTORS)


@pytest.mark.parametrize("case", sorted(COVER, key=lambda c: c.stages * c.replicas), ids=case_id)
def test_equal_to_one_process(case: Case, run_on_ranks):
    check(case, run_on_ranks)


@pytest.mark.full
@pytest.mark.parametrize("case", sorted(FULL, key=lambda c: c.stages * c.replicas), ids=case_id)
def test_equal_to_one_process_full_product(case: Case, run_on_ranks):
    check(case, run_on_ranks)


def check(case: Case, run_on_ranks) -> None:
    traces = run_on_ranks(case.stages * case.replicas, pipeline_trace, case)
    expected = reference(case, case.dtype)
    names = [name for trace in traces[:: case.replicas] for name in trace.parameters]
    assert sorted(names) == sorted(expected.parameters), "every layer is on exactly one stage"
    bounds = bounds_of(case, expected)
    for trace in traces:
        compare(trace, expected, bounds)
    outputs = torch.cat([trace.outputs for trace in traces if trace.outputs is not None])
    close("outputs", outputs, expected.outputs, bounds["outputs"])
    for first, *others in zip(*[iter(traces)] * case.replicas, strict=True):
        for other in others:
            assert all(torch.equal(first.parameters[n], other.parameters[n]) for n in first.parameters)


def bounds_of(case: Case, expected: Trace) -> dict[str, float]:
    """The tolerance for losses, gradients, parameters and outputs, derived as said above."""
    bounds = dict.fromkeys(("losses", "gradients", "parameters", "outputs"), EXACT)
    if case.clip_norm is not None:
        bounds = dict.fromkeys(bounds, CLIPPED)
    if case.dtype == torch.float32:
        exact = reference(case, torch.float64)
        for kind in bounds:
            error = max(
                float((a - b).abs().max()) for a, b in zip(values(expected, kind), values(exact, kind), strict=True)
            )
            bounds[kind] = SINGLE + AMPLIFIED * error
            assert bounds[kind] < 1e-3, f"{kind}: the case is too ill-conditioned to show anything"
    return bounds


def values(trace: Trace, kind: str) -> list[torch.Tensor]:
    value = getattr(trace, kind)
    if isinstance(value, dict):
        return [value[name] for name in sorted(value)]
    return [torch.as_tensor(value, dtype=torch.float64)]


def compare(trace: Trace, expected: Trace, bounds: dict[str, float]) -> None:
    if trace.outputs is not None:  # the last stage knows the loss as it was computed
        close("losses", *(torch.tensor(t.losses, dtype=torch.float64) for t in (trace, expected)), bounds["losses"])
    assert {n.split(":")[1] for n in trace.gradients} == set(trace.parameters)
    for name, gradient in trace.gradients.items():
        close(f"gradient {name}", gradient, expected.gradients[name], bounds["gradients"])
    for name, parameter in trace.parameters.items():
        close(f"parameter {name}", parameter, expected.parameters[name], bounds["parameters"])


def close(what: str, value: torch.Tensor, expected: torch.Tensor, bound: float) -> None:
    torch.testing.assert_close(value, expected, rtol=bound, atol=bound, msg=lambda message: f"{what}: {message}")


@pytest.mark.parametrize("zero_stage", [0, 1])
def test_two_runs_are_bit_equal(zero_stage: int, run_on_ranks):
    case = Case(stages=2, replicas=2, zero_stage=zero_stage, micro_batches=4, dropout=0.3, block="gated", ragged=True)
    first, second = (run_on_ranks(4, pipeline_trace, case) for _ in range(2))
    for one, two in zip(first, second, strict=True):
        assert one.losses == two.losses
        assert all(torch.equal(one.parameters[n], two.parameters[n]) for n in one.parameters)


def test_dropout_masks_do_not_depend_on_the_cut():
    case = Case(dropout=0.3, block="residual")
    assert reference(case, torch.float64).losses != reference(replace(case, dropout=0.0), torch.float64).losses
