"""Relative paths of data and schedule: relative to the config file that has them, and they keep their meaning."""

import os
from typing import Any

from pipemlp.config.data import SplitPaths
from pipemlp.config.root import RunConfig


def rebase(values: dict[str, Any], old: str, new: str | None) -> None:
    """Change relative paths of `data.path` and `parallel.schedule` from folder `old` to folder `new`, in place.

    Without `new` they become absolute.
    """
    if new is not None and os.path.realpath(old or ".") == os.path.realpath(new or "."):
        return

    def moved(path: Any) -> Any:
        if not isinstance(path, str) or os.path.isabs(path):
            return path
        joined = os.path.join(old, path)
        return os.path.abspath(joined) if new is None else os.path.relpath(joined, new or ".")

    data, parallel = values.get("data"), values.get("parallel")
    if isinstance(data, dict) and data.get("path") is not None:
        path = data["path"]
        data["path"] = {split: moved(one) for split, one in path.items()} if isinstance(path, dict) else moved(path)
    if isinstance(parallel, dict) and str(parallel.get("schedule")).endswith(".csv"):
        parallel["schedule"] = moved(parallel["schedule"])


def with_absolute_paths(config: RunConfig) -> RunConfig:
    """The same run, written so that the file may stand in any folder: its paths are made absolute."""

    def absolute(path: str) -> str:
        return os.path.normpath(config.base_dir / path)

    parallel = config.parallel
    if parallel != "auto" and parallel.schedule.endswith(".csv"):
        own = {"schedule": absolute(parallel.schedule)}
        config = config.model_copy(update={"parallel": parallel.model_copy(update=own)})
    path = config.data.path
    if path is None:
        return config
    if isinstance(path, SplitPaths):
        given = path.model_dump(exclude_none=True)
        moved: str | SplitPaths = SplitPaths(**{split: absolute(one) for split, one in given.items()})
    else:
        moved = absolute(path)
    return config.model_copy(update={"data": config.data.model_copy(update={"path": moved})})
