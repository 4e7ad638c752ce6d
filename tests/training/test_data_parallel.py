"""Data parallelism as the textbook has it: one stage and N replicas are PyTorch's DistributedDataParallel."""

import pytest
import torch
from data_parallel_bodies import NUM_EPOCHS, by_pipeline, by_torch, own_positions

NUM_TRAIN, BATCH = 86, 32  # two full batches, then 22 rows: 16 for the first replica, 6 for the second
TEXTBOOK = {  # configs/data_parallel.yaml, with fewer rows
    "data": {
        "source": {"name": "teacher", "rows": NUM_TRAIN, "inputs": 100, "outputs": 10, "hidden": 0},
        "split": {"validation": 0.0, "test": 0.0},
    },
    "model": {"hidden": []},
    "loss": "mse",
    "training": {"epochs": NUM_EPOCHS, "global_batch_size": BATCH},
    "optimizer": {"name": "sgd", "lr": 0.01},
    "parallel": {"stages": 1, "data_parallel": 2},
}
DEEP = {
    **TEXTBOOK,
    "data": {**TEXTBOOK["data"], "source": {"name": "teacher", "rows": NUM_TRAIN, "inputs": 20, "classes": 4}},
    "model": {"hidden": {"width": 24, "depth": 3}, "block": "residual", "activation": "gelu", "norm": "layer"},
    "loss": "cross_entropy",
    # a large eps: Adam divides by the gradient's size, which would blow up the rounding of tiny gradients
    "optimizer": {"name": "adamw", "lr": 0.01, "eps": 1e-3, "weight_decay": 0.1},
}
CASES = {
    "textbook": TEXTBOOK,
    "momentum": {**TEXTBOOK, "optimizer": {"name": "sgd", "lr": 0.01, "momentum": 0.9, "nesterov": True}},
    "deep": DEEP,
    "deep, sharded": {**DEEP, "parallel": {"stages": 1, "data_parallel": 2, "zero_stage": 1}},
    "deep, in micro-batches": {**DEEP, "parallel": {"stages": 1, "data_parallel": 2, "micro_batches": 4}},
}
NUM_STEPS = NUM_EPOCHS * 3
SINGLE = NUM_STEPS * 5 * 100**0.5 * 2**-24
"""float32: each step passes up to five layers of sums of up to 100 terms, whose rounding adds like a random walk."""


@pytest.mark.parametrize("config", CASES.values(), ids=CASES.keys())
def test_every_step_is_that_of_torch_ddp(run_on_ranks, config):
    ours, theirs = run_on_ranks(2, by_pipeline, config), run_on_ranks(2, by_torch, config)
    assert len(ours[0].losses) == NUM_STEPS
    for own, other in zip(ours, theirs, strict=True):
        torch.testing.assert_close(torch.tensor(own.losses), torch.tensor(other.losses), rtol=SINGLE, atol=SINGLE)
        for step, (parameters, expected) in enumerate(zip(own.parameters, other.parameters, strict=True)):
            for name, value in expected.items():
                message = f"step {step}, {name}"
                torch.testing.assert_close(
                    parameters[name], value, rtol=SINGLE, atol=SINGLE, msg=lambda text, m=message: f"{m}: {text}"
                )
    first, second = ours
    assert first.losses == second.losses
    for one, other in zip(first.parameters, second.parameters, strict=True):
        assert all(torch.equal(one[name], other[name]) for name in one), "replicas are bit-identical"


def test_the_comparison_would_notice_a_wrong_average(run_on_ranks):
    """Half the learning rate is what a gradient averaged once too often would do."""
    slow = {**TEXTBOOK, "optimizer": {"name": "sgd", "lr": 0.005}}
    (ours, _), (theirs, _) = run_on_ranks(2, by_pipeline, TEXTBOOK), run_on_ranks(2, by_torch, slow)
    assert max((ours.parameters[0][n] - value).abs().max() for n, value in theirs.parameters[0].items()) > 20 * SINGLE


def test_replicas_share_every_batch_without_overlap(run_on_ranks):
    first, second = run_on_ranks(2, own_positions, TEXTBOOK)
    sizes = [(len(one), len(other)) for one, other in zip(first, second, strict=True)]
    assert sizes == [(16, 16), (16, 16), (16, 6)] * NUM_EPOCHS
    for epoch in range(NUM_EPOCHS):
        rows = [row for batches in (first, second) for own in batches[3 * epoch : 3 * epoch + 3] for row in own]
        assert sorted(rows) == list(range(NUM_TRAIN)), "each row once in an epoch"
    assert first[0] != first[3], "another order in the next epoch"
