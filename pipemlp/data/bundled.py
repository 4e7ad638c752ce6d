"""The small data sets that come with scikit-learn, held in memory."""

import hashlib
from importlib.metadata import version

import numpy as np

from pipemlp.data.source import Column

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
    """One of `BUNDLED_SOURCES`; scikit-learn is imported here, as that takes seconds."""
    from sklearn import datasets

    bunch = getattr(datasets, f"load_{name}")()
    names = tuple(str(feature) for feature in bunch["feature_names"]) + ("target",)
    values = np.column_stack([bunch["data"], bunch["target"]]).astype(np.float64)
    content = f"{name} {version('scikit-learn')}".encode() + values.tobytes()
    return ArraySource(names, values, hashlib.blake2b(content, digest_size=16).hexdigest())
