"""Batches: every row counts once, in an order of its own, and nobody reads what they do not need."""

from dataclasses import dataclass, field
from itertools import product

import numpy as np
import pytest
import torch

from pipemlp.data import batch_positions
from pipemlp.engine.place import Place
from pipemlp.planning.plan import Plan
from pipemlp.planning.shapes import DataShape
from pipemlp.schedule.methods import make_schedule
from pipemlp.schedule.one_f_one_b import one_f_one_b
from pipemlp.training.batches import BatchLoader

CPU = torch.device("cpu")
GRIDS = [(1, 1), (1, 4), (2, 1), (2, 2), (3, 4), (4, 3)]
"""Replicas x micro-batches; 24 rows in a batch."""
BATCH = 24


@dataclass
class Rows:
    """Data whose every value is the number of its row; notes what is read."""

    num_rows: tuple[int, int, int]
    row_weight: float = 1.0
    reads: list[tuple[str, str]] = field(default_factory=list)

    @property
    def shape(self) -> DataShape:
        return DataShape(1, (3,), 1, "regression", self.num_rows)

    def inputs(self, split, positions):
        self.reads.append(("inputs", split))
        return positions[:, None].astype(np.float32), positions[:, None] % 3

    def targets(self, split, positions):
        self.reads.append(("targets", split))
        weights = np.where(positions % 2, self.row_weight, 1.0).astype(np.float32)
        return positions[:, None].astype(np.float32), weights


def loader_of(data, *, stage=0, num_stages=1, replica=0, replicas=1, micro_batches=1, seed=7, batch=BATCH):
    rows = batch // (replicas * micro_batches)
    plan = Plan((), one_f_one_b(num_stages, micro_batches), replicas, rows, 0, 0)
    place = Place(stage, num_stages, replica, replicas, reads_inputs=stage == 0, computes_loss=stage == num_stages - 1)
    return BatchLoader(data, plan, place, seed=seed, device=CPU)


def epoch_of(data, replicas, micro_batches, epoch=0, **changes):
    """For each step of an epoch, and replica, its micro-batches."""
    num_steps = -(-data.num_rows[0] // BATCH)
    loaders = [
        loader_of(data, replica=r, replicas=replicas, micro_batches=micro_batches, **changes) for r in range(replicas)
    ]
    batches = [
        [list(batch) for batch in loader.training_batches((epoch, step) for step in range(num_steps))]
        for loader in loaders
    ]
    return list(zip(*batches, strict=True))


def flat(step):
    """Rows and weights of a step over replicas and micro-batches."""
    labels = [labels for replica in step for _, labels in replica]
    return torch.cat([target[:, 0] for target, _ in labels]), torch.cat([weight for _, weight in labels])


@pytest.mark.parametrize(("replicas", "micro_batches"), GRIDS)
@pytest.mark.parametrize("num_rows", [1, 23, 24, 25, 50, 61, 71, 96])
def test_an_epoch_counts_every_row_once_and_weights_average_to_one(replicas, micro_batches, num_rows):
    counted = []
    for step in epoch_of(Rows((num_rows, 0, 0)), replicas, micro_batches):
        rows, weights = flat(step)
        assert len(rows) == BATCH
        assert float(weights.double().sum()) == pytest.approx(replicas * micro_batches, rel=1e-6)
        assert len(set(weights[weights > 0].tolist())) == 1
        counted += rows[weights > 0].int().tolist()
    assert sorted(counted) == list(range(num_rows))


def test_a_replica_may_hold_padding_only():
    (_, (first, second)) = epoch_of(Rows((BATCH + 5, 0, 0)), 2, 2)
    assert [int((weight > 0).sum()) for _, (_, weight) in first] == [5, 0]
    assert [int((weight > 0).sum()) for _, (_, weight) in second] == [0, 0]
    assert all(torch.isfinite(inputs[0]).all() for inputs, _ in second)


def test_the_order_is_that_of_the_sampler_however_the_run_is_parallelised():
    data = Rows((61, 0, 0))
    for (replicas, micro_batches), epoch in product(GRIDS, (0, 3)):
        for index, step in enumerate(epoch_of(data, replicas, micro_batches, epoch)):
            rows, weights = flat(step)
            assert rows[weights > 0].int().tolist() == batch_positions(61, 7, epoch, index, BATCH).tolist()


def test_inputs_and_targets_of_different_stages_are_of_the_same_rows():
    data = Rows((61, 0, 0))
    for replica in range(2):
        first, last = (
            loader_of(data, stage=stage, num_stages=3, replica=replica, replicas=2, micro_batches=3) for stage in (0, 2)
        )
        steps = [(1, step) for step in range(3)]
        for inputs, labels in zip(first.training_batches(steps), last.training_batches(steps), strict=True):
            for ((numeric, categorical), nothing), (nothing_too, (target, _)) in zip(inputs, labels, strict=True):
                assert nothing is None and nothing_too is None
                assert torch.equal(numeric, target)
                assert torch.equal(categorical[:, 0], numeric[:, 0].long() % 3)
                assert (numeric.dtype, categorical.dtype) == (torch.float32, torch.int64)


@pytest.mark.parametrize(
    ("stage", "read"), [(0, {"inputs"}), (1, set()), (2, {"targets"})], ids=["first", "middle", "last"]
)
def test_only_the_ends_read(stage, read):
    data = Rows((61, 30, 0))
    loader = loader_of(data, stage=stage, num_stages=3)
    batches = [list(batch) for batch in loader.training_batches([(0, 0), (0, 1), (0, 2)])]
    batches += [batch for batch, _ in loader.evaluation_batches("validation")]
    assert len(batches) == 5
    assert {what for what, _ in data.reads} == read
    assert all(batch == [] for batch in batches) == (stage == 1)


def test_sample_weights_multiply():
    (step,) = epoch_of(Rows((20, 0, 0), row_weight=2.5), 2, 3)
    rows, weights = flat(step)
    unit = 6 / 20
    expected = [unit * (2.5 if row % 2 else 1.0) for row in rows[weights > 0].int().tolist()]
    assert weights[weights > 0].tolist() == pytest.approx(expected)


@pytest.mark.parametrize(("replicas", "micro_batches"), GRIDS)
@pytest.mark.parametrize("num_rows", [1, 24, 37, 50])
def test_evaluation_covers_each_row_once_in_order_and_pads_nothing(replicas, micro_batches, num_rows):
    data = Rows((5, 0, num_rows), row_weight=3.0)
    found = []
    for replica in range(replicas):
        loader = loader_of(data, replica=replica, replicas=replicas, micro_batches=micro_batches)
        assert loader.num_rows("test") == num_rows
        batches = list(loader.evaluation_batches("test"))
        assert len(batches) == -(-num_rows // BATCH), "as many on every replica"
        for batch, rows in batches:
            assert [len(labels[0]) for _, labels in batch] == rows
            assert [len(inputs[0]) for inputs, _ in batch] == rows
            assert all(0 < size <= BATCH // (replicas * micro_batches) for size in rows)
            targets = [int(value) for _, (target, _) in batch for value in target[:, 0]]
            weights = [float(value) for _, (_, weight) in batch for value in weight]
            assert targets == sorted(targets)
            assert weights == [3.0 if row % 2 else 1.0 for row in targets]
            found += targets
    assert sorted(found) == list(range(num_rows))
    assert {split for _, split in data.reads} == {"test"}


def test_a_replica_without_rows_still_takes_part_in_the_evaluation():
    batches = [
        [rows for _, rows in loader_of(Rows((5, 0, BATCH + 5)), replica=r, replicas=2).evaluation_batches("test")]
        for r in range(2)
    ]
    assert batches == [[[12], [5]], [[12], []]]


def test_every_stage_knows_the_rows_of_an_evaluation():
    data = Rows((5, 0, 61))
    counts = [
        [rows for _, rows in loader_of(data, stage=s, num_stages=3, micro_batches=5).evaluation_batches("test")]
        for s in range(3)
    ]
    assert counts[0] == counts[1] == counts[2]
    assert sum(map(sum, counts[0])) == 61


def test_a_rank_with_both_ends_reads_both():
    data = Rows((61, 0, 0))
    plan = Plan((), make_schedule("zb-v", 2, 3), 1, BATCH // 3, 0, 0)
    place = Place(0, 2, 0, 1, reads_inputs=True, computes_loss=True)
    (batch,) = BatchLoader(data, plan, place, seed=7, device=CPU).training_batches([(0, 0)])
    assert all(torch.equal(inputs[0], target) for inputs, (target, _) in batch)


def test_an_empty_split_has_no_batches():
    assert list(loader_of(Rows((5, 0, 0))).evaluation_batches("validation")) == []


def test_a_mistake_while_reading_reaches_the_training():
    class Damaged(Rows):
        def inputs(self, split, positions):
            raise OSError("the disk is gone")

    with pytest.raises(OSError, match="the disk is gone"):
        list(loader_of(Damaged((50, 0, 0))).training_batches([(0, 0), (0, 1)]))


def test_a_run_that_stops_early_leaves_no_thread():
    batches = loader_of(Rows((96, 0, 0))).training_batches((0, step) for step in range(4))
    next(batches)
    batches.close()
    assert list(batches) == []


@pytest.mark.parametrize(("replicas", "micro_batches"), GRIDS)
def test_the_weights_of_slices_add_up_to_as_many_as_there_are(replicas, micro_batches):
    """A slice counts as its rows do in the batch: times the slices, over the rows."""
    data = Rows((2 * BATCH + 7, 0, 0))
    loader = loader_of(data, replicas=replicas, micro_batches=micro_batches)
    for step in range(3):
        weights = [loader.weight_of_slice(step, index) for index in range(replicas)]
        assert sum(weights) == pytest.approx(replicas)
        for index, weight in enumerate(weights):
            rows = torch.cat([labels[1] for _, labels in loader.slice_of_batch(0, step, index)])
            assert weight == pytest.approx(float(rows.sum()) / micro_batches)
