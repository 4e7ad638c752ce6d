"""Relative paths in `data`: they are relative to the config file that has them, and keep their meaning when moved."""

import os
from typing import Any

from pipemlp.config.data import SplitPaths
from pipemlp.config.root import RunConfig


def rebase(values: dict[str, Any], old: str, new: str | None) -> None:
    """Change relative paths of `data.path` from relative to folder `old` to relative to folder `new`, in place.

    Without `new` they become absolute.
    """
    data = values.get("data")
    if not isinstance(data, dict) or data.get("path") is None:
        return
    if new is not None and os.path.realpath(old or ".") == os.path.realpath(new or "."):
        return

    def moved(path: Any) -> Any:
        if not isinstance(path, str) or os.path.isabs(path):
            return path
        joined = os.path.join(old, path)
        return os.path.abspath(joined) if new is None else os.path.relpath(joined, new or ".")

    path = data["path"]
    data["path"] = {split: moved(one) for split, one in path.items()} if isinstance(path, dict) else moved(path)


def with_absolute_paths(config: RunConfig) -> RunConfig:
    """The same run, written so that the file may stand in any folder: `data.path` is made absolute."""

    def absolute(path: str) -> str:
        return os.path.normpath(config.base_dir / path)

    path = config.data.path
    if path is None:
        return config
    if isinstance(path, SplitPaths):
        given = path.model_dump(exclude_none=True)
        moved: str | SplitPaths = SplitPaths(**{split: absolute(one) for split, one in given.items()})
    else:
        moved = absolute(path)
    return config.model_copy(update={"data": config.data.model_copy(update={"path": moved})})
