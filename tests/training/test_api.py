"""The package from Python: what the commands do, with values instead of text."""

import json
import math
import subprocess
import sys
import time
from pathlib import Path

import pytest
from table_run import rows_of

import pipemlp
from pipemlp.config.errors import ConfigError, DataError, UserError
from pipemlp.launching.status import RunStatus, report_failure, write_status
from pipemlp.training.launch import Ended

CONFIG = "data: {source: wine}\nmodel: {hidden: [8]}\ntraining: {global_batch_size: 16}\n"


@pytest.fixture
def config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    path = tmp_path / "wine.yaml"
    path.write_text(CONFIG)
    return path


def test_every_public_name_is_there():
    for name in pipemlp.__all__:
        assert callable(getattr(pipemlp, name)), name
        assert getattr(pipemlp, name).__doc__, name
    assert sorted(pipemlp.__all__) == pipemlp.__all__
    with pytest.raises(AttributeError, match="has no attribute 'resumee'"):
        _ = pipemlp.resumee


def test_import_takes_no_torch_and_neither_does_validate(config):
    code = (
        "import sys, pipemlp; print('torch' in sys.modules);"
        f"pipemlp.validate({str(config)!r}); print('torch' in sys.modules, 'deepspeed' in sys.modules)"
    )
    output = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert output == "False\nFalse False\n"


@pytest.mark.parametrize("kind", ["file", "name", "config"])
def test_validate_returns_what_would_run(config, kind):
    given = {"file": config, "name": str(config), "config": pipemlp.load_config(config)}[kind]
    preparation = pipemlp.validate(given)
    assert isinstance(preparation.config, pipemlp.RunConfig)
    assert preparation.config.loss.name == "cross_entropy"
    assert preparation.data.shape.num_rows == (142, 18, 18)
    assert preparation.plan.boundaries == (0, 3)
    assert any(note.startswith("training.epochs: 10") for note in preparation.notes)


def test_validate_raises_all_problems(config):
    with pytest.raises(ConfigError) as caught:
        pipemlp.validate(pipemlp.load_config(config, ["parallel.stages=9", "parallel.recompute=99"]))
    assert caught.value.exit_code == 2 and len(caught.value.messages) == 2
    with pytest.raises(DataError, match="512 rows, but there are only 142 training rows; use at most 142"):
        pipemlp.validate(pipemlp.load_config(config, ["training.global_batch_size=512"]))


def test_train_returns_the_finished_run(table_run):
    reported = table_run.reported
    assert (reported["dir"], reported["state"]) == (str(table_run.dir), "finished")
    run = pipemlp.open_run(table_run.dir)
    assert isinstance(run, pipemlp.Run) and run.metrics == reported["metrics"]


def test_open_run(table_run):
    run = pipemlp.open_run(str(table_run.dir))
    assert (run.status.state, run.status.exit_code, run.status.step) == ("finished", 0, 24)
    assert run.config.training.epochs == 4 and run.config.data.numeric == ("area", "rooms")
    assert {line["split"] for line in run.metrics} == {"train", "validation", "test"}
    assert run.metrics[-1].keys() == {"step", "split", "loss", "rmse", "mae", "r2"}


def test_open_run_of_something_else(tmp_path):
    with pytest.raises(ConfigError, match="not a run directory"):
        pipemlp.open_run(tmp_path)
    with pytest.raises(ConfigError, match="no such folder$"):
        pipemlp.open_run(tmp_path / "none")
    run = tmp_path / "digits-20260102"
    (run / "checkpoints").mkdir(parents=True)
    (run / "config.resolved.yaml").write_text(CONFIG)
    with pytest.raises(ConfigError, match=f"checkpoints: is a part of a run; name the run, {run}$"):
        pipemlp.open_run(run / "checkpoints")
    with pytest.raises(ConfigError, match=f"digits-2026: no such folder; did you mean {run}\\?$"):
        pipemlp.open_run(tmp_path / "digits-2026")


def test_a_run_that_fell_silent_reads_as_failed(tmp_path):
    (tmp_path / "config.resolved.yaml").write_text(CONFIG + "fault: {timeout_seconds: 5}\n")
    run = pipemlp.open_run(tmp_path)
    assert (run.status.state, run.status.message, run.metrics) == ("failed", "status.json is missing", [])
    write_status(tmp_path, "running", step=3)
    assert (run.status.state, run.status.step) == ("running", 3)
    old = RunStatus("running", step=3, updated_at=time.time() - 60)
    (tmp_path / "status.json").write_text(json.dumps(vars(old)))
    assert (run.status.state, run.status.step) == ("failed", 3)


def test_evaluate_and_predict(table_run, tmp_path):
    run = pipemlp.open_run(table_run.dir)
    values = pipemlp.evaluate(run)
    for name, value in run.metrics[-1].items():
        assert name in ("step", "split") or value == pytest.approx(values[name], rel=1e-6)
    assert pipemlp.evaluate(table_run.dir, "train")["loss"] != values["loss"]
    assert pipemlp.predict(run, table_run.folder / "test.csv", tmp_path / "out.csv") == 37
    predicted = [float(row["price"]) for row in rows_of(tmp_path / "out.csv")]
    errors = [p - float(r["price"]) for p, r in zip(predicted, rows_of(table_run.folder / "test.csv"), strict=True)]
    assert math.sqrt(sum(e * e for e in errors) / 37) == pytest.approx(values["rmse"], rel=1e-5)


def test_load_model_is_a_plain_torch_module(table_run):
    import torch

    model = pipemlp.load_model(table_run.dir)
    assert isinstance(model, torch.nn.Module) and not model.training
    assert model.preprocessing.numeric == ("area", "rooms")
    unknown = torch.zeros(2, 1, dtype=torch.int64)
    outputs = model(torch.tensor([[80.0, 3.0], [float("nan"), 3.0]]), unknown)
    assert outputs.shape == (2, 1) and outputs.isfinite().all()
    same = pipemlp.open_run(table_run.dir).model().state_dict()
    assert all(torch.equal(same[name], value) for name, value in model.state_dict().items())


def test_train_says_what_is_wrong_before_anything_starts(config, monkeypatch):
    with pytest.raises(ConfigError, match="use at most"):
        pipemlp.train(pipemlp.load_config(config, ["parallel.stages=9"]))
    for name, value in {"RANK": "0", "LOCAL_RANK": "0", "WORLD_SIZE": "1", "MASTER_PORT": "29500"}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("MASTER_ADDR", "127.0.0.1")
    with pytest.raises(UserError, match="starts its own processes"):
        pipemlp.train(config)
    with pytest.raises(UserError, match="in a launcher, run `-m pipemlp train CONFIG --resume auto`"):
        pipemlp.resume(config.parent)
    assert not (config.parent / "runs").exists()


def test_resume_goes_on_as_the_command_does(config, tmp_path, monkeypatch):
    (tmp_path / "config.resolved.yaml").write_text(CONFIG)
    write_status(tmp_path, "finished", step=9)
    told = []
    monkeypatch.setattr(
        "pipemlp.training.api.launch", lambda *own, **options: told.append((own, options)) or Ended(tmp_path, 0)
    )
    run = pipemlp.resume(tmp_path, ["training.epochs=7"])
    ((loaded, plugins), options) = told[0]
    assert (run.dir, run.status.step, options, list(plugins)) == (tmp_path, 9, {"resume": True}, [])
    assert loaded.training.epochs == 7 and loaded.run.dir == str(tmp_path)


def test_train_raises_what_the_run_said(config, tmp_path, monkeypatch):
    (tmp_path / "config.resolved.yaml").write_text(CONFIG)
    report_failure(tmp_path, "the training loss is nan at step 7", 6, own=True)
    monkeypatch.setattr("pipemlp.training.api.launch", lambda *_: Ended(tmp_path, 6))
    with pytest.raises(UserError, match="the training loss is nan at step 7") as caught:
        pipemlp.train(config)
    assert caught.value.exit_code == 6
