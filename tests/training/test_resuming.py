"""What a resume leaves in order before it trains, and what it chooses again for another grid."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from pipemlp.checkpoint.commit import Writing, commit
from pipemlp.checkpoint.folder import FOLDER, SAVED_FILE, Checkpoint, check_whole
from pipemlp.checkpoint.manifest import Manifest, fact
from pipemlp.config.errors import ConfigError, DataError
from pipemlp.config.files import replace_text
from pipemlp.config.loading import load_config
from pipemlp.config.writing import write_config
from pipemlp.launching.status import read_status
from pipemlp.planning.fingerprint import fingerprint_of
from pipemlp.training import resuming
from pipemlp.training.resuming import chosen_again, configuration_to_go_on, find_resumption, tidy
from pipemlp.training.run_directory import METRICS_FILE
from pipemlp.training.startup import begin, begin_or_resume, prepare_locally
from pipemlp.training.versions import package_version

CONFIG = """
data: {source: digits}
model: {hidden: [8, 8, 8]}
training: {global_batch_size: 24}
parallel: {stages: 2, schedule: zb-v, virtual_stages: 2, micro_batches: 8, partition: [0, 1, 2, 3, 5]}
"""
WINE = """
data: {source: wine}
model: {hidden: [8]}
training: {steps: 40, global_batch_size: 16}
checkpoint: {every_steps: 10}
run: {dir: run, device: cpu}
"""


class Alone:
    rank = 0

    def everyone(self, value):
        return [value]


def test_what_was_passed_over_is_set_aside(tmp_path):
    """Newer than where the run goes on: it must not take the place of whole ones when old ones go, nor be lost."""
    folder = tmp_path / FOLDER
    for name in ("step-10", "step-20", "step-30", ".saving-40", "passed-over-20"):
        (folder / name).mkdir(parents=True)
    (folder / "latest").write_text("step-30\n")
    (folder / "step-20" / "weights").write_text("half")
    kept = tidy(tmp_path, 10)
    assert kept == [
        f"checkpoint of step 20 is kept as {folder}/passed-over-20.2, yours to delete",
        f"checkpoint of step 30 is kept as {folder}/passed-over-30, yours to delete",
    ]
    found = sorted(path.name for path in folder.iterdir())
    assert found == ["latest", "passed-over-20", "passed-over-20.2", "passed-over-30", "step-10"]
    assert (folder / "passed-over-20.2" / "weights").read_text() == "half"
    assert (folder / "latest").read_text() == "step-10\n"


@pytest.fixture
def wine(tmp_path, monkeypatch):
    """A run that has begun and is saved after steps 10 and 20, and what it goes on with."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    Path("wine.yaml").write_text(WINE)
    preparation = prepare_locally(load_config("wine.yaml"))
    begun = begin(preparation)
    begun.lock.release()

    def write(folder):
        write_config(preparation.config, folder / "config.resolved.yaml")
        (folder / "layer-0").write_text("weights")
        return ["layer-0", "config.resolved.yaml"]

    for step in (10, 20):
        facts = {"data": fact(preparation.data.content), "model": fingerprint_of(preparation.layers)}
        commit(
            begun.run_dir / FOLDER,
            step,
            Writing(10, write),
            lambda files, step=step, facts=facts: Manifest(step, 1, 1, False, files, facts),
            Alone(),
            lambda text: None,
        )
    return preparation


def test_what_is_refused_is_not_called_damaged_and_stays(wine, tmp_path):
    folder = tmp_path / "run" / FOLDER
    (folder / "step-20" / "layer-0").chmod(0o666)
    begun = begin_or_resume(wine)
    begun.lock.release()
    assert begun.checkpoint == folder / "step-10" and read_status(tmp_path / "run").step == 10
    assert f"checkpoint of step 20 is kept as {folder}/passed-over-20, yours to delete" in begun.notes
    assert any("checkpoint of step 20 passed over" in note and "everybody may write it" in note for note in begun.notes)
    (folder / "passed-over-20" / "layer-0").chmod(0o600)
    assert check_whole(folder / "passed-over-20").manifest.step == 20


def go_on_with(*overrides):
    begun = begin_or_resume(prepare_locally(configuration_to_go_on(Path("run"), overrides)[0]))
    begun.lock.release()
    return begun


def test_what_may_not_change_is_refused_before_data_are_read(wine):
    changes = ["run.seed=3", "optimizer.lr=0.5", "optimizer.weight_decay=0.5", "training.clip_norm=1.0"]
    with pytest.raises(ConfigError) as caught:
        configuration_to_go_on(Path("run"), [*changes, "training.steps=50", "loss=auto", "data.split_seed=7"])
    assert caught.value.messages == (
        "run: run.seed: 0 -> 3",
        "run: training.clip_norm: null -> 1.0",
        "run: optimizer.weight_decay: 0.01 -> 0.5; data, model, loss, precision, gradients, run.seed, "
        "training.global_batch_size, training.clip_norm, and optimizer but for its lr, stay in a run",
    )


def test_what_is_decided_again_may_be_what_it_was(wine):
    begun = go_on_with("loss=auto", "data.target=auto", "optimizer.lr=0.5")
    assert begun.notes == ("changed: optimizer.lr: 0.001 -> 0.5", "resumed after step 20")


def test_other_data_are_refused_as_data(wine):
    with pytest.raises(ConfigError, match="data.split_seed: 0 -> 7; data, model, loss"):
        go_on_with("data.split_seed=7")
    with pytest.raises(DataError, match="data: their content has changed") as caught:
        find_resumption(wine.config, Path("run"), ["other"], "model")
    assert caught.value.exit_code == 3


def test_changes_are_said_before_the_first_checkpoint_too(wine):
    shutil.rmtree(Path("run") / FOLDER)
    (Path("run") / SAVED_FILE).unlink()
    assert go_on_with("training.steps=50").notes == (
        "changed: training.steps: 40 -> 50",
        "no checkpoint yet: the run begins anew",
    )


def test_a_run_goes_on_in_its_own_folder(wine, tmp_path):
    for override in ("run.dir=other", "run={dir: other}"):
        with pytest.raises(ConfigError, match="run.dir=other: a run goes on in its own folder, run; leave run.dir out"):
            configuration_to_go_on(Path("run"), [override])
    for same in ("run.dir=run", f"run.dir={tmp_path}/run", "run.dir=auto"):
        assert configuration_to_go_on(Path("run"), [same])[0].run.dir == f"{tmp_path}/run"


def test_what_is_no_folder_goes_too(tmp_path):
    folder = tmp_path / FOLDER
    folder.mkdir()
    (folder / ".saving-5").write_text("")
    (folder / ".removing-6").symlink_to(tmp_path)
    tidy(tmp_path, 0)
    assert list(folder.iterdir()) == [] and tmp_path.is_dir()


def test_nobody_goes_on_inside_a_checkpoint(tmp_path):
    checkpoint = tmp_path / "run" / FOLDER / "step-10"
    checkpoint.mkdir(parents=True)
    (checkpoint / "MANIFEST.json").write_text("{}")
    with pytest.raises(ConfigError, match=rf"is a checkpoint, not a run; its run, {tmp_path}/run, goes on"):
        configuration_to_go_on(checkpoint, [])


def test_lines_that_will_come_again_go(tmp_path):
    lines = [json.dumps({"step": step, "split": "train"}) + "\n" for step in (5, 10, 15)]
    (tmp_path / METRICS_FILE).write_text("".join(lines) + '{"step": 2')
    tidy(tmp_path, 10)
    assert (tmp_path / METRICS_FILE).read_text() == "".join(lines[:2])


GRIDS = {
    "parallel.stages=1": ["parallel.partition=balanced", "parallel.virtual_stages=auto"],
    "parallel.schedule=1f1b": ["parallel.partition=balanced", "parallel.virtual_stages=auto"],
    "parallel.virtual_stages=1": ["parallel.partition=balanced"],
    "parallel.stages=1 parallel.partition=uniform": ["parallel.virtual_stages=auto"],
    "parallel.stages=1 parallel.data_parallel=2": [
        "parallel.partition=balanced",
        "parallel.virtual_stages=auto",
        "parallel.micro_batches=auto",  # 24 rows are not 2 x 8 x n
    ],
    "parallel.data_parallel=3": [],
    "fault.restarts=2": [],
    "parallel=auto": [],
}


@pytest.mark.parametrize("overrides", GRIDS)
def test_what_was_chosen_for_another_grid_is_chosen_again(overrides, tmp_path):
    path = tmp_path / "config.resolved.yaml"
    path.write_text(CONFIG)
    assert chosen_again(path, overrides.split()) == GRIDS[overrides]


def test_another_model_of_the_same_name_is_refused(wine):
    """As by a plug-in whose block has changed: the configuration is the same."""
    other = [replace(layer, output_width=layer.output_width + 1) for layer in wine.layers]
    with pytest.raises(ConfigError, match="run: model: its layers are not those that were saved"):
        find_resumption(wine.config, Path("run"), wine.data.content, fingerprint_of(other))
    saved = find_resumption(wine.config, Path("run"), wine.data.content, fingerprint_of(wine.layers))
    assert saved.checkpoint.manifest.step == 20


def test_other_plugins_and_versions_are_warnings(tmp_path, monkeypatch):
    (tmp_path / "a.yaml").write_text(CONFIG)
    config = load_config(tmp_path / "a.yaml")
    directory = tmp_path / FOLDER / "step-10"
    directory.mkdir(parents=True)
    write_config(config, directory / "config.resolved.yaml")
    facts = {
        "data": "[]",
        "model": "model",
        "plugins": '["my_blocks"]',
        "torch": "2.1",
        "deepspeed": package_version("deepspeed"),
    }
    found = Checkpoint(directory, Manifest(10, 2, 1, False, {}, facts))
    monkeypatch.setattr(resuming, "newest_to_go_on", lambda folder: (found, []))
    monkeypatch.setattr(resuming, "loaded_plugins", lambda: ["other"])
    notes = find_resumption(config, tmp_path, [], "model").notes()
    assert notes[:2] == [
        'warning: --plugin: the run was saved with ["my_blocks"], and goes on with ["other"]',
        f"warning: torch: the run was saved with 2.1, and goes on with {package_version('torch')}",
    ]
    monkeypatch.setattr(resuming, "loaded_plugins", lambda: ["my_blocks"])
    facts["torch"] = package_version("torch")
    assert find_resumption(config, tmp_path, [], "model").notes() == ["resumed after step 10"]


def test_a_file_is_as_it_was_or_as_it_is_to_be(tmp_path, monkeypatch):
    path = tmp_path / "plan.json"
    replace_text(path, "old")

    def full(descriptor):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(OSError, match="No space left"):
        replace_text(path, "new and longer")
    assert path.read_text() == "old"
    monkeypatch.undo()
    replace_text(path, "new")
    assert path.read_text() == "new" and not list(tmp_path.glob("*.tmp"))
