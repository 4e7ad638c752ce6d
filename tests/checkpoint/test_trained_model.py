"""A trained model is loaded as it was saved, by whom it was saved; else the file that is not so is named."""

import os
import shutil

import pytest
import torch
from damage import OF_ANY_FILE, bit_flipped, deleted, foreign, linked, open_to_all, piped
from saved_model import save_untrained
from typer.testing import CliRunner

from pipemlp.checkpoint.folder import Checkpoint, check_whole
from pipemlp.checkpoint.manifest import MANIFEST_FILE, Manifest
from pipemlp.checkpoint.model_files import read_index, read_layers
from pipemlp.checkpoint.sealed_files import sealed, write_manifest
from pipemlp.checkpoint.trained_model import load_trained_model
from pipemlp.cli.app import app
from pipemlp.config.errors import ConfigError, ModelFileError
from pipemlp.config.root import RunConfig
from pipemlp.planning.layers import describe_layers
from pipemlp.training.resuming import refuse_checkpoint

LAYERS = [f"layer-{index:05d}.safetensors" for index in range(4)]
FILES = [*LAYERS, "index.json", "preprocessing.json", MANIFEST_FILE]
DAMAGE = {**OF_ANY_FILE, "a pipe": piped}
CONFIG = {
    "data": {"source": {"name": "teacher", "rows": 32, "inputs": 3}},
    "model": {"hidden": [4, 4]},
    "training": {"global_batch_size": 8},
}


def save(run_dir):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(run_dir.parent / "cache"))
        save_untrained(run_dir, RunConfig.model_validate(CONFIG))


@pytest.fixture(scope="module")
def original(tmp_path_factory):
    run_dir = tmp_path_factory.mktemp("saved") / "run"
    save(run_dir)
    return run_dir


@pytest.fixture
def run_dir(original, tmp_path):
    """A copy, to be damaged."""
    return shutil.copytree(original, tmp_path / "run")


def reason(path):
    with pytest.raises(ModelFileError) as caught:
        load_trained_model(path)
    (message,) = caught.value.messages
    return message


def test_a_whole_one_is_loaded(run_dir):
    assert sorted(path.name for path in (run_dir / "model").iterdir()) == sorted(FILES)
    found = load_trained_model(run_dir).layers.state_dict()
    again = load_trained_model(run_dir / "model").layers.state_dict()
    assert found and all(torch.equal(value, again[name]) for name, value in found.items())


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("kind", DAMAGE)
def test_every_damage_to_every_file_is_noticed(name, kind, run_dir):
    DAMAGE[kind](run_dir / "model" / name)
    message = reason(run_dir)
    assert message.startswith(str(run_dir / "model")) and "\n" not in message
    assert name in message or kind == "swapped"  # two are damaged then, and either may be named


def test_the_messages_are_those_of_checkpoints(run_dir):
    path = run_dir / "model" / LAYERS[1]
    before = path.read_bytes()
    bit_flipped(path)
    assert reason(run_dir) == f"{path}: damaged: its content is not what was written (SHA-256 differs)"
    path.write_bytes(before)
    open_to_all(path)
    assert reason(run_dir) == f"{path}: everybody may write it; `chmod -R o-w {path}`, if you trust it"
    deleted(path)
    assert reason(run_dir) == f"{path}: missing; all files that MANIFEST.json lists are needed"


def test_the_command_says_so_too(run_dir):
    command = ["checkpoint", "verify", str(run_dir / "model")]
    done = CliRunner().invoke(app, command)
    assert (done.exit_code, done.output) == (0, f"{run_dir / 'model'}: whole\n")
    bit_flipped(run_dir / "model" / LAYERS[3])
    done = CliRunner().invoke(app, command)
    assert done.exit_code == 4 and done.output.startswith(str(run_dir / "model" / LAYERS[3]))
    assert done.output.count("\n") == 1


def test_without_a_model_there_is_nothing(run_dir):
    shutil.rmtree(run_dir / "model")
    assert reason(run_dir) == f"{run_dir / 'model'}: no trained model here; has the run finished?"


def test_the_folder_is_looked_at_too(run_dir):
    linked(run_dir / "model")
    assert "model: is a symbolic link; only plain files are loaded" in reason(run_dir)


@pytest.mark.skipif(os.getuid() != 0, reason="only root can give a file away")
def test_nothing_of_anybody_else_is_parsed(run_dir, monkeypatch):
    """Owners come before contents: a file that is both foreign and damaged is refused as foreign."""
    (run_dir / "model" / "index.json").write_text("{")
    foreign(run_dir / "model" / "index.json")
    assert "belongs to another user (uid 12345)" in reason(run_dir)


def test_a_file_that_the_manifest_does_not_list_is_not_read(original):
    saved = check_whole(original / "model")
    model, shape, _ = read_index(saved)
    listed = {name: entry for name, entry in saved.manifest.files.items() if name != LAYERS[2]}
    less = Checkpoint(saved.directory, Manifest(0, 1, 1, False, listed))
    with pytest.raises(ModelFileError, match=f"MANIFEST.json: does not list {LAYERS[2]}, which is needed"):
        read_layers(less, describe_layers(model, shape))


def test_a_checkpoint_is_whole_before_anything_in_it_is_read(original, tmp_path):
    directory = shutil.copytree(original / "model", tmp_path / "step-0")
    (directory / "training.json").write_text("{}")
    files = {path.name: sealed(path) for path in directory.iterdir() if path.name != MANIFEST_FILE}
    write_manifest(directory, Manifest(0, 1, 1, False, files))
    (directory / "index.json").write_text("{")
    assert reason(directory).startswith(f"{directory / 'index.json'}: damaged: 1 bytes, written were ")
    deleted(directory / MANIFEST_FILE)
    assert reason(directory) == f"{directory}: MANIFEST.json is missing; it was not written to its end"


@pytest.mark.parametrize("mask", [0o000, 0o022, 0o077])
def test_a_model_is_loaded_whatever_the_umask(mask, tmp_path):
    before = os.umask(mask)
    try:
        save(tmp_path / "run")
    finally:
        os.umask(before)
    load_trained_model(tmp_path / "run")
    modes = {path.stat().st_mode & 0o777 for path in (tmp_path / "run" / "model").iterdir()}
    assert modes == {0o664 & ~mask}


def test_a_model_is_no_run(original):
    with pytest.raises(ConfigError, match=f"model: is a trained model, not a run; its run is {original}"):
        refuse_checkpoint(original / "model")
