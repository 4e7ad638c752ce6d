"""`pipemlp checkpoint inspect` and `verify`: which checkpoint is meant, and what is said of the others."""

import json

import pytest

from pipemlp.checkpoint import folder as folder_module
from pipemlp.checkpoint.commit import Writing, commit
from pipemlp.checkpoint.folder import FOLDER
from pipemlp.checkpoint.manifest import MANIFEST_FILE, Manifest


class Alone:
    rank = 0

    def everyone(self, value):
        return [value]


@pytest.fixture
def run(tmp_path):
    """With checkpoints of steps 10 and 20."""

    def write(folder):
        (folder / "layer-0").write_text("weights")
        return ["layer-0"]

    for step in (10, 20):

        def describe(files, step=step):
            return Manifest(step, 1, 2, False, files, {"precision": "fp32"})

        commit(tmp_path / "run" / FOLDER, step, Writing(10, write), describe, Alone(), lambda text: None)
    return tmp_path / "run"


@pytest.mark.parametrize("place", ["", FOLDER, f"{FOLDER}/step-20"])
def test_a_run_its_checkpoints_or_one_of_them(place, run, pipemlp):
    answer = pipemlp("checkpoint", "inspect", run / place)
    assert (answer.code, answer.err) == (0, "")
    assert "1 stage x 2 replicas, one copy" in answer.out and "7 B in 1 file\n" in answer.out.replace("  ", "")
    answer = pipemlp("checkpoint", "verify", run / place)
    steps = [20] if place.endswith("20") else [10, 20]
    assert answer.out.splitlines() == [f"{run}/{FOLDER}/step-{step}: whole" for step in steps] and answer.code == 0


def test_inspect_reads_manifests_only_and_says_what_it_passes_over(run, pipemlp, monkeypatch):
    monkeypatch.setattr(folder_module, "hashed", lambda path: pytest.fail("a file was read"))
    (run / FOLDER / "step-20" / "layer-0").write_text("damaged")
    answer = pipemlp("checkpoint", "inspect", run, "--json")
    assert json.loads(answer.out)["step"] == 20 and answer.err == ""
    (run / FOLDER / "step-20" / MANIFEST_FILE).write_text("{")
    answer = pipemlp("checkpoint", "inspect", run, "--json")
    assert json.loads(answer.out)["step"] == 10
    assert answer.err.startswith("warning: checkpoint of step 20 passed over: ") and "it is no JSON" in answer.err
    (run / FOLDER / "step-10" / MANIFEST_FILE).unlink()
    answer = pipemlp("checkpoint", "inspect", run)
    assert answer.code == 4 and "no checkpoint in it can be read" in answer.err and answer.err.count("step-") == 2
    answer = pipemlp("checkpoint", "inspect", run / FOLDER / "step-10")
    assert answer.code == 4 and "MANIFEST.json is missing" in answer.err


def test_what_is_elsewhere_or_nothing_is_said(run, tmp_path, pipemlp):
    (tmp_path / "new").mkdir()
    (tmp_path / "new" / "config.resolved.yaml").touch()
    (tmp_path / "empty").mkdir()
    for path, code, message in (
        (run / "none", 2, "no such folder"),
        (run / FOLDER / "step-30", 2, "no such folder; there are step-10, step-20"),
        (run / FOLDER / "latest", 2, "is a file; name the folder of a checkpoint or a run"),
        (tmp_path / "new", 4, "no checkpoints in it"),
        (tmp_path / "empty", 4, "is no checkpoint, and holds none"),
    ):
        for command in ("inspect", "verify"):
            answer = pipemlp("checkpoint", command, path)
            assert (answer.code, answer.err) == (code, f"pipemlp: {path}: {message}\n")
