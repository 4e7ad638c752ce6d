"""The pipeline computes what one process computes, however the layers are cut and the batch is sliced."""

from dataclasses import replace
from itertools import combinations, product

import pytest
import torch
from covering import pairs_of, pairwise
from equality import Case, pipeline_trace, reference
from equality_check import check

ORDERS = (
    "gpipe",
    "1f1b",
    "interleaved-1f1b:2",
    "zb-h1",
    "zb-h2",
    "interleaved-zb:2",
    "zb-v",
    "zb-auto:1",
    "zb-auto:2",
)
NAMED = {
    "stages": (1, 2, 3, 4),
    "order": ORDERS,
    "replicas": (1, 2),
    "zero_stage": (0, 1),
    "micro_batches": (1, 2, 5, 8),
    "recompute": (0, 2, "elementwise"),
    "block": ("plain", "residual", "gated"),
    "dropout": (0.0, 0.3),
}
OTHERS = {
    "cut": ("parameters", "uniform", "uneven"),
    "ragged": (False, True),
    "clip_norm": (None, 0.05),
    "optimizer": ("adamw", "sgd"),
    "loss": ("cross_entropy", "weighted"),
    "strict_links": (False, True),
}
FACTORS = NAMED | OTHERS
COVER = [Case(**choice) for choice in pairwise(FACTORS)]
MODELS = {
    "stages": (1, 2, 4),
    "replicas": (1, 2),
    "zero_stage": (0, 1),
    "micro_batches": (1, 2, 5),
    "recompute": (0, 2),
    "block": ("plain", "residual", "gated"),
    "dropout": (0.0, 0.3),
}
GRID = {"stages": (2, 3, 4), "order": ORDERS, "replicas": (1, 2), "micro_batches": (2, 5, 8)}


def full_product(factors: dict) -> list[Case]:
    """Every combination of the given factors; the others take turns."""
    rest = pairwise({name: values for name, values in FACTORS.items() if name not in factors})
    return [
        Case(**dict(zip(factors, values, strict=True)), **rest[index % len(rest)])
        for index, values in enumerate(product(*factors.values()))
    ]


FULL = full_product(MODELS) + full_product(GRID | {"strict_links": (False, True)})


def case_id(case: Case) -> str:
    parts = [
        f"{case.stages}x{case.replicas}",
        case.order,
        f"z{case.zero_stage}",
        f"m{case.micro_batches}",
        case.block,
        case.cut,
    ]
    parts += [f"recompute-{case.recompute}"] * (case.recompute != 0) + ["dropout"] * (case.dropout > 0)
    parts += ["ragged"] * case.ragged + ["clip"] * (case.clip_norm is not None) + [case.optimizer, case.loss]
    parts += ["strict"] * case.strict_links
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
