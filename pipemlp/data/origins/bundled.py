"""The small data sets that come with scikit-learn, held in memory."""

import hashlib
import json
from importlib.metadata import version
from pathlib import Path

import numpy as np

from pipemlp.data.origins.source import Column
from pipemlp.data.shards.cache import build_once

BUNDLED_SOURCES = ("digits", "breast_cancer", "diabetes", "wine")


class ArraySource:
    """Number columns of one array [rows, columns] in memory; the last column is the target."""

    default_target = ("target",)

    def __init__(self, names: tuple[str, ...], values: np.ndarray, fingerprint: str) -> None:
        self.num_rows = len(values)
        self.columns = tuple(Column(name, "number") for name in names)
        self.fingerprint = fingerprint
        self._values = values

    def read(self, rows: np.ndarray) -> dict[str, np.ndarray]:
        """All columns at `rows`; see `Source`."""
        block = self._values[rows]
        return {column.name: block[:, index] for index, column in enumerate(self.columns)}


def open_bundled(name: str) -> ArraySource:
    """One of `BUNDLED_SOURCES`, kept in the cache folder, as importing scikit-learn takes every process seconds."""
    folder = build_once(f"bundled-{name}-{version('scikit-learn')}", lambda partial: _build(name, partial))
    values = np.load(folder / "values.npy")
    names = json.loads((folder / "names.json").read_text())
    content = name.encode() + values.tobytes()
    return ArraySource(tuple(names), values, hashlib.blake2b(content, digest_size=16).hexdigest())


def _build(name: str, folder: Path) -> None:
    from sklearn import datasets

    bunch = getattr(datasets, f"load_{name}")()
    names = [str(feature) for feature in bunch["feature_names"]] + ["target"]
    np.save(folder / "values.npy", np.column_stack([bunch["data"], bunch["target"]]).astype(np.float64))
    (folder / "names.json").write_text(json.dumps(names))
