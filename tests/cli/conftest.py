"""The command line in this process, for what starts no other, and one trained run of the digits."""

import os
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
from commands import PIPEMLP, ROOT, succeed
from shared_runs import made_once

from pipemlp.__main__ import main

DIGITS = str(ROOT / "configs" / "digits.yaml")
SHORT = "training.epochs=2"


@dataclass(frozen=True)
class Answer:
    """Exit code and what was printed."""

    code: int
    out: str
    err: str


@pytest.fixture
def pipemlp(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Callable[..., Answer]:
    """`pipemlp(*arguments)` in an empty folder, with a cache of its own; it must not start a launcher."""
    folder = tmp_path / "here"
    folder.mkdir()
    monkeypatch.chdir(folder)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("COLUMNS", "200")

    def started(*arguments: object, **options: object) -> int:
        raise AssertionError("a launcher was started")

    monkeypatch.setattr("pipemlp.training.launch.run_launcher", started)

    def run(*arguments: object) -> Answer:
        monkeypatch.setattr(sys, "argv", ["pipemlp", *map(str, arguments)])
        with pytest.raises(SystemExit) as ended:
            main()
        printed = capsys.readouterr()
        return Answer(int(ended.value.code or 0), printed.out, printed.err)

    return run


@dataclass(frozen=True)
class FinishedRun:
    """A run directory, and what its command printed."""

    dir: Path
    out: str
    err: str


@pytest.fixture(scope="session")
def digits_run(tmp_path_factory: pytest.TempPathFactory) -> FinishedRun:
    """The shipped digits config, shortened, through `pipemlp train`."""

    def make(folder: Path) -> None:
        started = succeed([*PIPEMLP, "train", DIGITS, SHORT, "run.dir=run"], folder)
        (folder / "out").write_text(started.out)
        (folder / "err").write_text(started.err)

    folder = made_once(tmp_path_factory, "digits", make)
    return FinishedRun(folder / "run", *((folder / name).read_text() for name in ("out", "err")))


@pytest.fixture
def copied(tmp_path: Path) -> Callable[[Path], Path]:
    """A copy of a run directory that may be spoilt."""

    def copy(run_dir: Path) -> Path:
        target = tmp_path / "copy"
        for path in sorted(run_dir.rglob("*")):
            if path.is_file() and "tensorboard" not in path.parts:
                (target / path.relative_to(run_dir)).parent.mkdir(parents=True, exist_ok=True)
                os.link(path, target / path.relative_to(run_dir))
        return target

    return copy
