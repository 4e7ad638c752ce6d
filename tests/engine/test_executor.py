"""The executor beyond equality with one process: the same bits twice, any evaluation, orders from files, lost peers."""

import csv
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from equality import BATCH, Case, pipeline_trace
from equality_check import EXACT, check
from executor_bodies import expected_losses, expected_outputs, in_one_go, losses_of, predicted, with_a_peer_that_stops
from ranks import RankPool
from torch.distributed.pipelining import schedules as torch_schedules

ZB_V = Case(stages=2, order="zb-v", replicas=2, zero_stage=1, micro_batches=4, dropout=0.3, block="gated", ragged=True)


@pytest.mark.parametrize("recompute", [0, "elementwise"])
def test_two_runs_are_bit_equal(recompute, run_on_ranks):
    case = Case(**(vars(ZB_V) | {"recompute": recompute}))
    first, second = (run_on_ranks(4, pipeline_trace, case) for _ in range(2))
    for one, two in zip(first, second, strict=True):
        assert one.losses == two.losses
        for kind in ("gradients", "parameters"):
            values, others = getattr(one, kind), getattr(two, kind)
            assert values.keys() == others.keys()
            assert all(torch.equal(values[name], others[name]) for name in values)
        assert (one.outputs is None) == (two.outputs is None)
        assert one.outputs is None or torch.equal(one.outputs, two.outputs)


ROWS = [[BATCH // 2], [1], [3, 1, 7, 2, 2, 2, 5, 1, 1], [5, 5], [20, 11]]


@pytest.mark.parametrize("order", ["1f1b", "interleaved-1f1b:2", "zb-v"])
@pytest.mark.parametrize("replicas", [1, 2])
def test_an_evaluation_may_have_any_rows_and_micro_batches(order, replicas, run_on_ranks):
    """With two replicas the second one has no rows at all."""
    case = Case(stages=2, order=order, replicas=replicas, micro_batches=4, block="residual", dropout=0.2)
    ranks, expected = run_on_ranks(2 * replicas, predicted, case, ROWS), expected_outputs(case)
    last = 0 if order == "zb-v" else replicas  # where the last virtual stage of the first replica is
    for rank, found in enumerate(ranks):
        for outputs, sizes in zip(found, ROWS, strict=True):
            assert [len(output) for output in outputs] == (sizes if rank == last else [])
            if outputs:
                torch.testing.assert_close(torch.cat(outputs), expected[: sum(sizes)], rtol=EXACT, atol=EXACT)


def test_each_micro_batch_has_its_loss_whatever_the_order(run_on_ranks):
    found = {}
    for order in ("gpipe", "1f1b", "zb-h1", "zb-v"):
        case = Case(stages=2, order=order, micro_batches=5, dropout=0.3)
        (here, whole), (there, same) = run_on_ranks(2, losses_of, case)
        losses, nothing = (here, there) if order == "zb-v" else (there, here)
        assert (nothing, whole) == ({}, same)
        assert [losses[index] for index in range(5)] == pytest.approx(expected_losses(case), rel=EXACT)
        assert whole == pytest.approx(sum(losses.values()) / 5, rel=EXACT)
        found[order] = whole
    assert len(set(found.values())) <= 2, "the cut may matter to rounding, the order may not"
    assert found["gpipe"] == found["1f1b"] == found["zb-h1"]


@pytest.mark.parametrize("order", ["gpipe", "interleaved-zb:2", "zb-v"])
@pytest.mark.parametrize("strict_links", [False, True])
def test_nothing_is_left_when_a_step_is_over(order, strict_links, run_on_ranks):
    case = Case(stages=2, order=order, micro_batches=4, strict_links=strict_links)
    assert run_on_ranks(2, in_one_go, case) == [0, 0]


def torch_file(folder: Path, class_name: str, num_stages: int, num_micro_batches: int) -> str:
    """As torch's own class dumps its order; two virtual stages per rank."""
    stage = SimpleNamespace(num_stages=2 * num_stages, group_size=num_stages, group_rank=0, submod=None, stage_index=0)
    schedule = getattr(torch_schedules, class_name)([stage, stage], num_micro_batches)
    path = folder / f"{class_name}.csv"
    with path.open("w", newline="") as file:
        csv.writer(file).writerows(schedule.pipeline_order.values())
    return str(path)


@pytest.mark.parametrize(
    ("class_name", "stages", "micro_batches", "settings"),
    [
        ("ScheduleLoopedBFS", 2, 5, {"recompute": 2, "strict_links": True}),
        ("ScheduleLoopedBFS", 4, 2, {"zero_stage": 1, "replicas": 2, "dropout": 0.3}),
        ("ScheduleDualPipeV", 2, 5, {"block": "residual", "replicas": 2, "dropout": 0.3}),
        ("ScheduleDualPipeV", 4, 8, {"block": "gated", "strict_links": True, "recompute": "elementwise"}),
    ],
)
def test_orders_of_torch_run_here(class_name, stages, micro_batches, settings, tmp_path, run_on_ranks):
    order = torch_file(tmp_path, class_name, stages, micro_batches)
    check(Case(stages=stages, order=order, micro_batches=micro_batches, **settings), run_on_ranks)


@pytest.mark.parametrize(
    ("order", "last", "awaited"),
    [
        ("1f1b", "1F0", "1B0"),
        ("1f1b", "1SEND_B1", "1B2"),
        ("zb-h1", "1F0", "1I0"),
        ("gpipe", "1RECV_F0", "1RECV_F1"),  # and so the send of 0F1 does not end
    ],
)
def test_who_loses_a_peer_says_what_it_waited_for(order, last, awaited):
    pool = RankPool(2, timeout_seconds=3.0)
    try:
        answers = pool.run(with_a_peer_that_stops, Case(stages=2, order=order, micro_batches=5), last)
    finally:
        pool.close()
    assert answers == [f"waited for {awaited} of rank 1, which left or stopped answering", "stopped"]
