"""A run that failed on its way ends with the command that goes on with it."""

import pytest

from pipemlp.config.loading import load_config
from pipemlp.launching.status import report_failure
from pipemlp.training import launch as module
from pipemlp.training.launch import Ended, how_to_go_on, launch


@pytest.mark.parametrize("code", [1, 5, 6])
def test_after_a_failure_it_says_how_to_go_on(code, tmp_path):
    assert how_to_go_on(Ended(tmp_path, code)) is None, "it never trained"
    (tmp_path / "metrics.jsonl").touch()
    assert how_to_go_on(Ended(tmp_path, code)) is None
    (tmp_path / "metrics.jsonl").write_text('{"step": 1}\n')
    assert how_to_go_on(Ended(tmp_path, code)) == f"no checkpoint yet; begin again with: pipemlp resume {tmp_path}"
    (tmp_path / "checkpoints" / "step-10").mkdir(parents=True)
    assert how_to_go_on(Ended(tmp_path, code), ["own"]) == f"go on with: pipemlp resume {tmp_path} --plugin own"


def test_what_would_come_again_needs_a_change_first(tmp_path):
    (tmp_path / "checkpoints" / "step-10").mkdir(parents=True)
    report_failure(tmp_path, "step 12: the loss is not finite; lower optimizer.lr", 6, own=True, comes_again=True)
    again = how_to_go_on(Ended(tmp_path, 6))
    assert again == f"with one of these changes, go on with: pipemlp resume {tmp_path}"


@pytest.mark.parametrize("code", [0, 2, 3, 4, 75, 130])
def test_where_it_would_not_help_or_is_said_already_it_says_nothing(code, tmp_path):
    (tmp_path / "checkpoints" / "step-10").mkdir(parents=True)
    assert how_to_go_on(Ended(tmp_path, code)) is None


def test_it_is_the_last_line(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    (tmp_path / "wine.yaml").write_text("data: {source: wine}\nmodel: {hidden: [8]}\nrun: {dir: my run, device: cpu}\n")

    def run_launcher(command, run_dir, *given, **options):
        (run_dir / "checkpoints" / "step-10").mkdir(parents=True)
        return 6

    monkeypatch.setattr(module, "run_launcher", run_launcher)
    assert launch(load_config("wine.yaml")).exit_code == 6
    assert capsys.readouterr().out.splitlines()[-1] == f"go on with: pipemlp resume '{tmp_path}/my run'"
