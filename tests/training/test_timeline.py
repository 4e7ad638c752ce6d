"""What the recorder writes, with replicas, and which steps it keeps."""

import json

import pytest
from timeline_bodies import record_steps

from pipemlp.schedule.measured import read_timeline
from pipemlp.schedule.time_shares import time_shares
from pipemlp.training.timeline import MOST_KEPT_EVENTS, MOST_KEPT_STEPS, is_recorded, num_kept

CONFIG = {
    "data": {
        "source": {"name": "teacher", "rows": 256, "inputs": 6, "classes": 3},
        "split": {"validation": 0.0, "test": 0.0},
    },
    "model": {"hidden": {"width": 32, "depth": 6}},
    "training": {"epochs": 1, "global_batch_size": 32},
    "parallel": {"stages": 2, "data_parallel": 2, "micro_batches": 4},
}


def test_replicas_of_two_stages(run_on_ranks, tmp_path):
    changed, *_ = run_on_ranks(4, record_steps, CONFIG, str(tmp_path), 3, 7)
    assert changed == [1, 3, 6]
    assert [path.name for path in tmp_path.iterdir()] == ["timeline.json"]
    text = (tmp_path / "timeline.json").read_text()
    for step in json.loads(text)["steps"]:
        places = [(own["rank"], own["stage"], own["replica"], own["virtual_stages"]) for own in step["ranks"]]
        assert places == [(0, 0, 0, [0]), (1, 0, 1, [0]), (2, 1, 0, [1]), (3, 1, 1, [1])]
        assert min(start for own in step["ranks"] for _, start, _, _ in own["events"]) == 0.0
    recorded = read_timeline(text)
    assert [[step.step for step in replicas] for replicas in recorded] == [[1, 1], [3, 3], [6, 6]]
    for step in (step for replicas in recorded for step in replicas):
        for own in time_shares(step):
            assert 0.0 < own.compute <= step.makespan and own.total == pytest.approx(step.makespan, abs=1e-5)
        assert [len(transfers) for transfers in step.transfers] == [8, 8]


def test_nothing_is_written_where_nothing_is_recorded(run_on_ranks, tmp_path):
    assert run_on_ranks(4, record_steps, CONFIG, str(tmp_path), 0, 2) == [[]] * 4
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("every_steps", "recorded"),
    [(0, []), (1, list(range(1, 31))), (5, [1, *range(5, 31, 5)]), (10, [1, 10, 20, 30]), (25, [2, 25]), (100, [10])],
)
def test_every_nth_step_and_an_early_one(every_steps, recorded):
    assert [step for step in range(1, 31) if is_recorded(step, every_steps)] == recorded


@pytest.mark.parametrize(
    ("sizes", "kept"),
    [
        ([10], 1),
        ([10] * 3, 3),
        ([10] * 9, MOST_KEPT_STEPS),
        ([MOST_KEPT_EVENTS // 2] * 4, 2),
        ([10, MOST_KEPT_EVENTS // 2, MOST_KEPT_EVENTS], 1),
        ([2 * MOST_KEPT_EVENTS], 1),
        ([2 * MOST_KEPT_EVENTS, 10], 1),
    ],
)
def test_the_file_stays_small(sizes, kept):
    assert num_kept(sizes) == kept
