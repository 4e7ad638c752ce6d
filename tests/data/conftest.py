"""A cache folder of its own for every test, and short ways to a configuration."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pipemlp.config.root import RunConfig
from pipemlp.data import PreparedData, prepare


@pytest.fixture(autouse=True)
def own_cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    cache = tmp_path_factory.mktemp("cache")
    monkeypatch.setenv("XDG_CACHE_HOME", str(cache))
    return cache / "pipemlp"


def config_of(data: dict[str, Any], **sections: Any) -> RunConfig:
    sections.setdefault("training", {"global_batch_size": 4})
    return RunConfig.model_validate({"data": data, "model": {"hidden": [8]}, **sections})


@pytest.fixture
def make_config() -> Callable[..., RunConfig]:
    """A small configuration from the keys of section `data`, and other sections."""
    return config_of


@pytest.fixture
def prepared(tmp_path: Path) -> Callable[..., PreparedData]:
    """prepare() with the keys of section `data`; a dict of sections may come first."""

    def call(sections: dict[str, Any] | None = None, **data: Any) -> PreparedData:
        return prepare(config_of(data, **(sections or {})), tmp_path)

    return call


@pytest.fixture
def write_csv(tmp_path: Path) -> Callable[..., Path]:
    """A CSV from a header and rows; numbers and texts are written as they are, None as nothing."""

    def write(header: str, rows: list[tuple[Any, ...]], name: str = "houses.csv") -> Path:
        lines = [header] + [",".join("" if value is None else str(value) for value in row) for row in rows]
        path = tmp_path / name
        path.write_text("\n".join(lines) + "\n")
        return path

    return write
