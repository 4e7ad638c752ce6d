"""What a run writes while it trains, and what of it stays when it goes on after a crash."""

import json

from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from pipemlp.launching.status import read_status, write_status
from pipemlp.training.records import Records


def test_tensorboard_has_every_step_once_though_some_were_done_twice(tmp_path):
    for first, last, after in ((1, 7, 0), (5, 9, 4)):  # killed after step 7, it goes on after step 4
        records = Records(tmp_path, 100.0, after)
        for step in range(first, last + 1):
            records.add(step, "train", {"loss": 100.0 * first + step})
        records.end("finished", last, "", 0)
    events = EventAccumulator(str(tmp_path / "tensorboard"))
    events.Reload()
    found = [(event.step, event.value) for event in events.Scalars("train/loss")]
    assert found == [(step, (100.0 if step < 5 else 500.0) + step) for step in range(1, 10)]


def test_a_run_that_goes_on_says_where_it_is(tmp_path):
    write_status(tmp_path, "running", step=40)
    records = Records(tmp_path, 0.01, 40)
    records.add(41, "train", {"loss": float("nan")})
    try:
        assert read_status(tmp_path).step == 40
        assert json.loads((tmp_path / "metrics.jsonl").read_text()) == {"step": 41, "split": "train", "loss": None}
    finally:
        records.end("failed", 41, "", 6)
