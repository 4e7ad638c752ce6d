"""Prepared data: any rows of any split as standardised arrays, ready for the model."""

import hashlib
import json
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from pipemlp.data.fitting.preprocessing import Preprocessing
from pipemlp.data.fitting.task import TRUE_TEXTS
from pipemlp.data.origins.source import Split
from pipemlp.data.splits import Splits
from pipemlp.data.table import Table, stacked
from pipemlp.planning.shapes import DataShape


class ColumnNames(NamedTuple):
    """Columns by use, in the order in which they enter the model."""

    numeric: tuple[str, ...]
    categorical: tuple[str, ...]
    targets: tuple[str, ...]
    weight: str | None


@dataclass(frozen=True)
class PreparedData:
    """All splits, checked and with what was learned from the training rows.

    Args:
        shape: what the layers need to know.
        preprocessing: statistics, vocabularies and labels, to be stored with the model.
        columns: names by use.
        notes: sentences on what was inferred, each beginning with its key.
        fingerprint: changes with the content of the data and with what was chosen, not with where the files lie.
        splits: the rows of each split.
    """

    shape: DataShape
    preprocessing: Preprocessing
    columns: ColumnNames
    notes: tuple[str, ...]
    fingerprint: str
    splits: Splits

    @property
    def content(self) -> list[str]:
        """Hashes of the tables behind the splits."""
        return [part.table.fingerprint for part in self.splits.parts]

    def num_rows(self, split: Split) -> int:
        """Rows of a split; 0 if it is empty."""
        return self.splits.num_rows(split)

    def inputs(self, split: str, positions: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Inputs at `positions` within the split.

        Returns:
            Numeric inputs, standardised, float32 [n, num_numeric], and categorical codes, int64 [n, num_categorical],
            0 for unknown.
        """
        table, rows = self.splits.locate(split, positions)
        numeric, categorical = self.columns.numeric, self.columns.categorical
        block = table.read_block(rows, numeric)
        names = categorical if block is not None else numeric + categorical
        columns = table.read(rows, names) if names else {}
        values = stacked(columns, numeric, len(rows)) if block is None else block
        numbers = self.preprocessing.standardise(values)
        codes = np.empty((len(rows), len(self.columns.categorical)), dtype=np.int64)
        for index, name in enumerate(self.columns.categorical):
            codes[:, index] = self._model_codes(table, index, name, columns[name])
        return numbers, codes

    def targets(self, split: str, positions: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Targets and sample weights at `positions` within the split.

        Returns:
            The target: class indices int64 [n]; labels float32 [n, labels]; standardised values float32 [n, outputs];
            for an autoencoder the standardised inputs float32 [n, num_numeric]. And the weights, float32 [n],
            1 where there is no weight column.
        """
        table, rows = self.splits.locate(split, positions)
        learned = self.preprocessing
        sources = self.columns.numeric if learned.is_autoencoder else self.columns.targets
        weight = self.columns.weight
        columns = table.read(rows, sources + (() if weight is None else (weight,)))
        weights = np.ones(len(rows), np.float32) if weight is None else columns[weight].astype(np.float32)
        if learned.is_autoencoder:
            return learned.standardise(stacked(columns, sources, len(rows))), weights
        if learned.task == "classification":
            return self._class_indices(table, sources[0], columns[sources[0]]), weights
        if learned.task == "multilabel":
            labels = [_zeros_and_ones(table, name, columns[name]) for name in sources]
            return np.stack(labels, axis=1), weights
        values = stacked(columns, sources, len(rows))
        scaled = (values - np.array(learned.target_means)) / np.array(learned.target_stds)
        return scaled.astype(np.float32), weights

    def _model_codes(self, table: Table, index: int, name: str, keys: np.ndarray) -> np.ndarray:
        """The table's codes, or whole numbers, as codes of the model's vocabulary; 0 where missing or unseen."""
        if table.kinds[name] == "category":
            return np.take(_code_lookup(self, table, index, name), keys)
        missing = np.isnan(keys)
        distinct, where = np.unique(np.where(missing, 0.0, keys), return_inverse=True)
        codes = self.preprocessing.codes_of_texts(index, [str(int(value)) for value in distinct])[where]
        return np.where(missing, 0, codes)

    def _class_indices(self, table: Table, name: str, keys: np.ndarray) -> np.ndarray:
        index_of = {str(label): index for index, label in enumerate(self.preprocessing.class_labels)}
        distinct, where = np.unique(keys, return_inverse=True)
        texts = table.texts(name) if table.kinds[name] == "category" else None
        names = [str(int(key)) if texts is None else texts[int(key)] for key in distinct]
        return np.take(np.array([index_of[label] for label in names], dtype=np.int64), where)


def data_fingerprint(parts: list[Any]) -> str:
    """A hash (32 hexadecimal digits) of anything that JSON can hold."""
    return hashlib.blake2b(json.dumps(parts, sort_keys=True).encode(), digest_size=16).hexdigest()


def _code_lookup(data: PreparedData, table: Table, index: int, name: str) -> np.ndarray:
    """Table code -> model code, and 0 last, where -1 finds it; made anew when the table has met new texts."""
    texts = table.texts(name)
    known = table.lookups.get(name)
    if known is None or len(known) != len(texts) + 1:
        known = np.append(data.preprocessing.codes_of_texts(index, texts), 0)
        table.lookups[name] = known
    return known


def _zeros_and_ones(table: Table, name: str, keys: np.ndarray) -> np.ndarray:
    if table.kinds[name] == "number":
        return keys.astype(np.float32)
    texts = [TRUE_TEXTS[text.lower()] for text in table.texts(name)]
    return np.take(np.array(texts, dtype=np.float32), keys)
