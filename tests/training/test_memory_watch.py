"""The peak of a step is what its tensors hold together, to the byte; and watching changes nothing."""

import pytest
import torch
from live_storages import LiveStorages
from memory_bodies import watched_run
from torch.nn import functional

from pipemlp.profiling.storage_count import StorageCount
from pipemlp.training.memory_watch import MemoryWatch, resting_bytes, size_of

CPU = torch.device("cpu")
CONFIG = {
    "run": {"name": "watched", "device": "cpu"},
    "data": {
        "source": {"name": "teacher", "rows": 320, "inputs": 6, "classes": 3},
        "split": {"validation": 0.0, "test": 0.0},
    },
    "model": {"hidden": {"width": 48, "depth": 6}, "block": "residual", "norm": "layer", "dropout": 0.1},
    "training": {"steps": 4, "global_batch_size": 64, "clip_norm": 1.0},
    "parallel": {"stages": 2, "micro_batches": 4, "schedule": "zb-h1"},
}


def some_work(x: torch.Tensor, weight: torch.Tensor) -> None:
    """Forward and backward of some layers, with views, results in place and a reused address."""
    for _ in range(4):
        x = functional.gelu(x @ weight.t()).mul_(2.0)
        x = functional.dropout(x.view(-1, 8), 0.1).view(x.shape)
    x.square().sum().backward()
    weight.grad = None


def test_what_existed_and_what_is_made_add_up():
    existed = torch.ones(1000)
    before = resting_bytes()
    watch = MemoryWatch(CPU)
    watch.begin()
    made = existed * 2
    more = made + 1
    del more
    made.add_(1)
    peak = watch.end()
    assert peak == before + 2 * 4000
    assert resting_bytes() == before + 4000


def test_what_the_step_let_go_of_before_it_made_something_does_not_count():
    old = [torch.ones(1000)]
    before = resting_bytes()
    watch = MemoryWatch(CPU)
    watch.begin()
    old.clear()
    made = torch.ones(500)
    assert watch.end() == before - 4000 + size_of([made])


def test_several_steps_can_be_watched_one_after_the_other():
    watch, weight, peaks = MemoryWatch(CPU), torch.randn(32, 32, requires_grad=True), []
    for _ in range(2):
        watch.begin()
        some_work(torch.randn(64, 32), weight)
        peaks.append(watch.end())
    assert peaks[0] == peaks[1] > resting_bytes()


def test_storages_are_followed_as_by_asking_for_each_at_every_operation():
    class Asking(LiveStorages):
        num_peak_bytes = 0

        def __torch_dispatch__(self, func, types, args=(), kwargs=None):
            result = super().__torch_dispatch__(func, types, args, kwargs)
            self.num_peak_bytes = max(self.num_peak_bytes, self.num_bytes)
            return result

    weight = torch.randn(32, 32, requires_grad=True)
    with Asking() as asking, StorageCount() as following:
        some_work(torch.randn(64, 32), weight)
        kept = torch.ones(10)
        assert following.num_bytes == asking.num_bytes == size_of([kept])
    assert following.num_peak_bytes == asking.num_peak_bytes > 64 * 32 * 4


def test_gradients_on_parameters_count():
    weight = torch.ones(100, requires_grad=True)
    before = resting_bytes()
    weight.sum().backward()
    assert resting_bytes() == before + 400


@pytest.mark.parametrize("changes", [{}, {"precision": "bf16"}], ids=["fp32", "bf16"])
def test_watching_a_run_changes_no_weight_and_prints_nothing(changes, run_on_ranks, capfd):
    plain = run_on_ranks(2, watched_run, CONFIG | changes, None, 4)
    watched = run_on_ranks(2, watched_run, CONFIG | changes, 2, 4)
    for (_, expected), (peak, found) in zip(plain, watched, strict=True):
        assert peak > 2 * size_of(found)
        assert all(torch.equal(one, other) for one, other in zip(expected, found, strict=True))
    written = capfd.readouterr()
    assert not [line for line in written.err.splitlines() if "memory_watch" in line]


def test_the_peak_of_a_run_is_that_of_its_last_steps(run_on_ranks):
    """From the second step on all is there; the reader's batch may be between two of its tensors."""
    early, late = (run_on_ranks(2, watched_run, CONFIG, step, 5) for step in (2, 3))
    for (one, _), (other, _) in zip(early, late, strict=True):
        assert one == pytest.approx(other, rel=0.02)
