"""Writes configs into an empty folder, which is the current one while a test runs."""

from collections.abc import Callable
from pathlib import Path

import pytest

from pipemlp.config import ConfigError, load_config

BASE = "data: {source: digits}\nmodel: {hidden: [8]}\n"

Refused = Callable[..., list[str]]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def write(folder: Path) -> Callable[..., str]:
    def write(text: str | bytes, name: str = "a.yaml", base: bool = False) -> str:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        content = text if isinstance(text, bytes) else (BASE * base + text).encode()
        path.write_bytes(content)
        return name

    return write


@pytest.fixture
def refused(write: Callable[..., str]) -> Refused:
    """The messages for a config that must be refused; with `base`, two good lines come first."""

    def refused(text: str | bytes, *overrides: str, base: bool = True) -> list[str]:
        name = write(text, base=base and isinstance(text, str))
        with pytest.raises(ConfigError) as caught:
            load_config(name, overrides)
        assert caught.value.exit_code == 2
        return list(caught.value.messages)

    return refused
