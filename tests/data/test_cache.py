"""The cache: built once by whoever comes first, never half, and somewhere else where it cannot be written."""

import subprocess
import sys
from pathlib import Path

import pytest

from pipemlp.config.errors import DataError
from pipemlp.data.shards.cache import build_once, cache_dir, content_hash

_PROCESS = """
import sys, time
from pathlib import Path
from pipemlp.data.shards.cache import build_once
def build(folder):
    with open(sys.argv[1], "a") as file:
        file.write("built\\n")
    time.sleep(0.3)
    (folder / "value").write_text("whole")
assert (build_once("entry", build) / "value").read_text() == "whole"
"""


def test_several_processes_build_once(tmp_path: Path) -> None:
    log = tmp_path / "log"
    command = [sys.executable, "-c", _PROCESS, str(log)]
    processes = [subprocess.Popen(command, cwd=Path(__file__).parents[2]) for _ in range(3)]
    assert [process.wait(30) for process in processes] == [0, 0, 0]
    assert log.read_text() == "built\n"


def test_nothing_half_built_stays(own_cache: Path) -> None:
    def fail(folder: Path) -> None:
        (folder / "half").write_text("x")
        raise OSError(28, "No space left on device")

    with pytest.raises(DataError, match="No space left on device; set XDG_CACHE_HOME"):
        build_once("entry", fail)
    assert [entry.name for entry in own_cache.iterdir()] == ["entry.lock"]
    (own_cache / "entry.partial").mkdir()
    assert (build_once("entry", lambda folder: None)).is_dir()


def test_fallback_where_the_cache_cannot_be_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    assert cache_dir().parent == tmp_path
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "file"))
    with pytest.raises(DataError, match="no folder for the cached rows"):
        cache_dir()


def test_unchanged_files_are_not_hashed_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a"
    path.write_text("one")
    first = content_hash(path)
    with monkeypatch.context() as patch:
        patch.setattr("pipemlp.data.shards.cache._hash_bytes", lambda *given: pytest.fail("hashed again"))
        assert content_hash(path) == first
    path.write_text("three")
    assert content_hash(path) != first
    for memo in (cache_dir() / "hashes").glob("*.json"):
        memo.write_text("damaged")
    assert content_hash(path) != first
