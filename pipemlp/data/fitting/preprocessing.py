"""What was learned from the training rows and goes with the model: statistics, vocabularies, class labels."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from functools import cached_property
from typing import Any, Literal

import numpy as np

from pipemlp.config.errors import DataError, ModelFileError
from pipemlp.data.files.arrow_values import number_of_text
from pipemlp.data.problems import counted, listing, suggestion
from pipemlp.planning.shapes import Task

Value = str | int

_MOST_MISSING = 3  # more missing columns are told in one line


@dataclass(frozen=True)
class Preprocessing:
    """How columns become model inputs, and model outputs become values again.

    Args:
        task: of the model.
        numeric: numeric input columns, with their training `means` and `stds`.
        categorical: categorical input columns; code i+1 is the i-th value of its vocabulary, 0 is unknown.
        targets: target columns; for a regression with their training means and standard deviations.
        class_labels: for a classification, the label of every class.
        missing, unseen: the policies of section `data`.
        is_autoencoder: the target are the numeric inputs.
    """

    task: Task
    numeric: tuple[str, ...]
    means: tuple[float, ...]
    stds: tuple[float, ...]
    categorical: tuple[str, ...]
    vocabularies: tuple[tuple[Value, ...], ...]
    targets: tuple[str, ...]
    target_means: tuple[float, ...]
    target_stds: tuple[float, ...]
    class_labels: tuple[Value, ...]
    missing: Literal["error", "drop", "mean"]
    unseen: Literal["error", "unknown"]
    is_autoencoder: bool

    def to_json(self) -> dict[str, Any]:
        """Plain lists, numbers and strings; `from_json` gives the same value back."""
        return asdict(self)

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> "Preprocessing":
        """The value that `to_json` wrote.

        Raises:
            ModelFileError: an entry is missing or of another kind.
        """
        try:
            found: dict[str, Any] = {field.name: content[field.name] for field in fields(cls)}
            found["vocabularies"] = tuple(tuple(values) for values in found["vocabularies"])
        except (KeyError, TypeError) as error:
            raise ModelFileError(f"preprocessing: the entry {error} is missing or damaged") from None
        arguments: dict[str, Any] = {key: tuple(v) if isinstance(v, list) else v for key, v in found.items()}
        return cls(**arguments)

    @property
    def cardinalities(self) -> tuple[int, ...]:
        """Codes of each categorical column, the unknown one included."""
        return tuple(len(values) + 1 for values in self.vocabularies)

    def transform_inputs(self, columns: Mapping[str, np.ndarray], first_row: int = 0) -> tuple[np.ndarray, np.ndarray]:
        """Columns by name -> (float32 [n, num_numeric], int64 [n, num_categorical]).

        Args:
            columns: at least the input columns, each [n]: numbers, or texts (None where missing), which are parsed.
            first_row: rows before these in their file, for messages.

        Raises:
            DataError: a column is missing, text where numbers are expected, a value that is not finite,
                or missing or unseen values where the run's policy does not allow them.
        """
        problems = self._missing_columns(columns)
        if problems:
            raise DataError(problems)
        num_rows = len(columns[(self.numeric + self.categorical)[0]])
        numbers = np.empty((num_rows, len(self.numeric)))
        for index, name in enumerate(self.numeric):
            numbers[:, index] = self._numbers(name, np.asarray(columns[name]), first_row, problems)
        codes = np.empty((num_rows, len(self.categorical)), dtype=np.int64)
        for index, name in enumerate(self.categorical):
            codes[:, index] = self._codes(index, np.asarray(columns[name]), first_row, problems)
        if problems:
            raise DataError(problems)
        return self.standardise(numbers), codes

    def standardise(self, numbers: np.ndarray) -> np.ndarray:
        """float64 [n, num_numeric] -> float32 with training mean 0 and deviation 1; a missing value becomes 0."""
        scaled = (numbers - np.array(self.means)) / np.array(self.stds)
        return np.where(np.isnan(scaled), 0.0, scaled).astype(np.float32)

    def codes_of_texts(self, index: int, texts: list[str]) -> np.ndarray:
        """The model's code of every text for the categorical column `index`: int64 [n]; 0 where unseen."""
        lookup = self._lookups[index]
        return np.fromiter((lookup.get(text, 0) for text in texts), dtype=np.int64, count=len(texts))

    def restore_targets(self, values: np.ndarray) -> np.ndarray:
        """Standardised targets [n, outputs] -> their own units; class indices [n] -> labels; labels as they are."""
        if self.task == "classification":
            is_text = any(isinstance(label, str) for label in self.class_labels)
            labels = np.array(self.class_labels, dtype=object if is_text else np.int64)
            restored: np.ndarray = labels[np.asarray(values, dtype=np.int64)]
            return restored
        if self.task == "multilabel":
            return values
        means, stds = (self.means, self.stds) if self.is_autoencoder else (self.target_means, self.target_stds)
        rescaled: np.ndarray = np.asarray(values, dtype=np.float64) * np.array(stds) + np.array(means)
        return rescaled

    @cached_property
    def _lookups(self) -> tuple[dict[str, int], ...]:
        return tuple({str(value): code + 1 for code, value in enumerate(values)} for values in self.vocabularies)

    def _missing_columns(self, columns: Mapping[str, np.ndarray]) -> list[str]:
        needed = self.numeric + self.categorical
        missing = [name for name in needed if name not in columns]
        if len(missing) > _MOST_MISSING:
            return [
                f"{len(missing)} of the {len(needed)} columns that the model needs are missing: {listing(missing, 5)}; "
                f"there are {listing(columns, 5)}"
            ]
        return [f"no column {name!r}{suggestion(name, columns)}; the model needs {listing(needed)}" for name in missing]

    def _numbers(self, name: str, values: np.ndarray, first_row: int, problems: list[str]) -> np.ndarray:
        if values.dtype.kind in "biuf":
            numbers = values.astype(np.float64)
        else:
            parsed = [np.nan if value is None else number_of_text(str(value)) for value in values.tolist()]
            odd = [row for row, number in enumerate(parsed) if number is None]
            if odd:
                problems.append(_named(odd, first_row, name, f"{values[odd[0]]!r} is not a number"))
            numbers = np.array([0.0 if number is None else number for number in parsed])
        infinite = np.flatnonzero(np.isinf(numbers))
        if infinite.size:
            problems.append(_named(infinite, first_row, name, f"{numbers[infinite[0]]} is not finite"))
        self._check_missing(np.flatnonzero(np.isnan(numbers)), first_row, name, problems)
        return numbers

    def _codes(self, index: int, values: np.ndarray, first_row: int, problems: list[str]) -> np.ndarray:
        name = self.categorical[index]
        texts = [_text_of(value) for value in values.tolist()]
        missing = np.array([row for row, text in enumerate(texts) if text is None], dtype=np.int64)
        self._check_missing(missing, first_row, name, problems)
        codes = self.codes_of_texts(index, ["" if text is None else text for text in texts])
        unseen = np.setdiff1d(np.flatnonzero(codes == 0), missing)
        if unseen.size and self.unseen == "error":
            known = listing(self.vocabularies[index])
            what = f"the category {texts[unseen[0]]!r} was not in the training rows ({known})"
            problems.append(_named(unseen, first_row, name, f"{what}; data.unseen: unknown would allow it"))
        codes[missing] = 0
        return codes

    def _check_missing(self, rows: np.ndarray, first_row: int, name: str, problems: list[str]) -> None:
        if rows.size and self.missing != "mean":
            dropping = self.missing == "drop"
            policy = "data.missing: drop cannot drop rows to predict" if dropping else "data.missing: error"
            problems.append(_named(rows, first_row, name, f"the value is missing ({policy}); fill it in"))


def _text_of(value: object) -> str | None:
    """The text that a category is looked up by: 3 and 3.0 are the category 3, true is `true`."""
    if value is None or value != value:
        return None
    if isinstance(value, bool):
        return str(value).lower()
    return str(int(value)) if isinstance(value, float) and value.is_integer() else str(value)


def _named(rows: Any, first_row: int, name: str, what: str) -> str:
    more = f" ({counted(len(rows), 'such value')} among these rows)" if len(rows) > 1 else ""
    return f"row {first_row + int(rows[0]) + 1}, column {name!r}: {what}{more}"
