"""Section `data`: where the rows come from and which columns mean what."""

from typing import Annotated, Literal

from pydantic import Field, field_validator, model_validator

from pipemlp.config.registry import Source, register_name
from pipemlp.config.section import Fraction, Named, Names, NonNegative, NonNegativeFloat, Positive, Section


class Digits(Named):
    """1,797 images of handwritten digits, 64 numeric inputs, 10 classes (bundled with scikit-learn)."""

    name: Literal["digits"] = "digits"


class BreastCancer(Named):
    """569 rows, 30 numeric inputs, 2 classes (bundled with scikit-learn)."""

    name: Literal["breast_cancer"] = "breast_cancer"


class Diabetes(Named):
    """442 rows, 10 numeric inputs, one numeric target (bundled with scikit-learn)."""

    name: Literal["diabetes"] = "diabetes"


class Wine(Named):
    """178 rows, 13 numeric inputs, 3 classes (bundled with scikit-learn)."""

    name: Literal["wine"] = "wine"


class Teacher(Named):
    """Synthetic rows of any number, made row by row from a seed: a random network labels random inputs."""

    name: Literal["teacher"] = "teacher"
    rows: Positive = 10_000
    """Rows in all, before the split."""
    inputs: Positive = 32
    """Numeric input columns, standard normal."""
    outputs: Positive = 1
    """Target columns of a regression; ignored when `classes` is set."""
    classes: Annotated[int, Field(ge=2)] | None = None
    """Classes of a classification; leave out for a regression."""
    noise: NonNegativeFloat = 0.1
    """Standard deviation of the noise added to the teacher's output, whose own is about 1."""
    hidden: NonNegative = 32
    """Hidden units of the teacher (tanh); 0 makes it linear."""
    seed: NonNegative = 0
    """Seed of the inputs, the teacher's weights and the noise."""


class Csv(Named):
    """Comma-separated files with a header line."""

    name: Literal["csv"] = "csv"
    delimiter: Annotated[str, Field(min_length=1, max_length=1)] = ","
    """The character between two values."""


class Parquet(Named):
    """Parquet files."""

    name: Literal["parquet"] = "parquet"


class Npy(Named):
    """One two-dimensional array; its columns are named `0`, `1`, ..."""

    name: Literal["npy"] = "npy"


class Npz(Named):
    """Named arrays: a one-dimensional array is a column, a two-dimensional `x` gives `x.0`, `x.1`, ..."""

    name: Literal["npz"] = "npz"


for _source in (Digits, BreastCancer, Diabetes, Wine, Teacher, Csv, Parquet, Npy, Npz):
    register_name("source", _source.model_fields["name"].default, _source)


class Split(Section):
    """How rows are shared out when `path` does not name a file per split."""

    validation: Fraction = 0.1
    """Fraction of the rows held out for validation during training."""
    test: Fraction = 0.1
    """Fraction of the rows held out for the test at the end."""

    @model_validator(mode="after")
    def _something_left(self) -> "Split":
        if self.validation + self.test >= 1:
            raise ValueError(
                f"validation {self.validation} + test {self.test} = {self.validation + self.test:g} "
                "leaves no rows for training; keep the sum below 1"
            )
        return self


class SplitPaths(Section):
    """One file or glob per split; a split left out is empty."""

    train: str
    """Training rows."""
    validation: str | None = None
    """Validation rows."""
    test: str | None = None
    """Test rows."""


class DataConfig(Section):
    """Where the rows come from and which columns mean what. `source` or `path` is required."""

    source: Source = "auto"
    """`digits`, `breast_cancer`, `diabetes`, `wine`, `teacher`, `csv`, `parquet`, `npy`, `npz`, or a
    registered name; `auto` takes it from the ending of `path`."""
    path: str | SplitPaths | None = None
    """A file, a glob, or `{train: ..., validation: ..., test: ...}`; relative to the config file."""
    target: str | int | Names = "auto"
    """The column to predict, a list of columns (several outputs, or several labels), or `inputs` for
    an autoencoder; `auto` takes `target`, `label`, `y` or `class` if there is one, else the last column."""
    numeric: Literal["auto"] | Names = "auto"
    """Numeric input columns; `auto` takes every column of numbers that is not used otherwise."""
    categorical: Literal["auto"] | Names = "auto"
    """Categorical input columns; `auto` takes every column of text or true/false that is not used otherwise."""
    weight: str | None = None
    """Column of sample weights; a row's loss is multiplied by its weight."""
    split: Split = Split()
    """Fractions for validation and test; ignored where `path` names a file per split."""
    split_seed: NonNegative = 0
    """Seed of the split; separate from `run.seed`, so that runs with several seeds share a test set."""
    missing: Literal["error", "drop", "mean"] = "error"
    """A missing number: stop with its row and column, drop the row, or put the training mean (a
    missing category becomes the unknown one)."""
    unseen: Literal["error", "unknown"] = "error"
    """A category that the training rows do not have: stop with its row and column, or treat it as unknown."""

    @field_validator("target", mode="before")
    @classmethod
    def _no_bool(cls, value: object) -> object:
        if isinstance(value, bool):
            raise ValueError("a column name, a list of column names or `inputs` is expected")
        return value

    @model_validator(mode="after")
    def _has_origin(self) -> "DataConfig":
        if self.source == "auto" and self.path is None:
            raise ValueError("give `source` (such as digits) or `path` (a file)")
        return self
