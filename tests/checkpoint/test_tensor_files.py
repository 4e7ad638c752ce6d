"""Tensors on a disk that is full, or may not be written; a model in the place of another."""

import errno
import os

import pytest
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file

from pipemlp.checkpoint import model_files, tensor_files
from pipemlp.checkpoint.model_files import layer_file, publish, save_layers
from pipemlp.checkpoint.tensor_files import save_tensors
from pipemlp.training.failure import describe

TENSORS = {"weight": torch.arange(3.0)}


def test_a_file_that_cannot_be_written_is_an_error_of_the_system(tmp_path):
    with pytest.raises(OSError) as caught:
        save_tensors(tmp_path / "missing" / "a.safetensors", TENSORS)
    assert caught.value.errno == errno.ENOENT and caught.value.filename == str(tmp_path / "missing" / "a.safetensors")


def test_a_full_disk_is_said_to_be_full(tmp_path, monkeypatch):
    def full(*arguments, **options):
        raise SafetensorError("Error while serializing: I/O error: No space left on device (os error 28)")

    monkeypatch.setattr(tensor_files, "save_file", full)
    with pytest.raises(OSError) as caught:
        save_tensors(tmp_path / "a.safetensors", TENSORS)
    message, exit_code, own = describe(caught.value)
    assert message.startswith(
        f"the disk is full: {tmp_path}/a.safetensors: I/O error: No space left on device; make room"
    )
    assert (exit_code, own) == (6, True)


def test_other_mistakes_stay_what_they_are(tmp_path, monkeypatch):
    def other(*arguments, **options):
        raise SafetensorError("invalid header")

    monkeypatch.setattr(tensor_files, "save_file", other)
    with pytest.raises(SafetensorError, match="invalid header"):
        save_tensors(tmp_path / "a.safetensors", TENSORS)


@pytest.mark.parametrize("fails_at", [None, 1, 2])
def test_a_model_is_replaced_as_a_whole(fails_at, tmp_path, monkeypatch):
    """Killed between any two steps, there is the old model, the new one, or none; never some layers of each."""
    for name, value in (("model", 1.0), (".model-saving", 2.0)):
        save_layers(tmp_path / name, {index: {"weight": torch.full((2,), value)} for index in range(3)})
    replace, calls = os.replace, []

    def counted(*arguments):
        calls.append(arguments)
        if len(calls) == fails_at:
            raise KeyboardInterrupt
        replace(*arguments)

    monkeypatch.setattr(model_files.os, "replace", counted)
    if fails_at is None:
        publish(tmp_path / ".model-saving", tmp_path / "model")
        assert sorted(path.name for path in tmp_path.iterdir()) == ["model"]
    else:
        with pytest.raises(KeyboardInterrupt):
            publish(tmp_path / ".model-saving", tmp_path / "model")
    found = [path for path in ((tmp_path / "model") / layer_file(index) for index in range(3)) if path.exists()]
    assert len({float(load_file(path)["weight"][0]) for path in found}) <= 1
    assert len(found) == (0 if fails_at == 2 else 3)
