"""Every way in which data and configuration do not fit: one clear message each, and all of them at once."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pipemlp.config.errors import ConfigError, DataError, UserError
from pipemlp.data import PreparedData

Prepare = Callable[..., PreparedData]
WriteCsv = Callable[..., Path]
GOOD = [(20 + index, "Bern" if index % 2 else "Genf", 0.5 + index) for index in range(20)]
EVERYTHING = {"validation": 0.0, "test": 0.0}


def with_row(index: int, *row: Any) -> list[tuple[Any, ...]]:
    return [row if place == index else good for place, good in enumerate(GOOD)]


def message_of(call: Callable[[], object], kind: type[UserError]) -> str:
    with pytest.raises(kind) as caught:
        call()
    assert len(caught.value.messages) == 1, caught.value.messages
    return caught.value.messages[0]


DATA_CASES: list[tuple[list[tuple[Any, ...]], dict[str, Any], dict[str, Any], str]] = [
    (GOOD, {"target": "prize"}, {}, "data.target: no column 'prize'; did you mean 'price'?; columns: age, city, price"),
    (GOOD, {"numeric": ["aeg"]}, {}, "data.numeric: no column 'aeg'; did you mean 'age'?; columns: age, city, price"),
    (GOOD, {"weight": "w"}, {}, "data.weight: no column 'w'; columns: age, city, price"),
    (GOOD, {"target": 3}, {}, "data.target: 3: there are 3 columns; use -3..2"),
    (
        with_row(4, "abc", "Bern", 1),
        {"numeric": ["age"]},
        {},
        "data.path: houses.csv: line 6, column 'age': 'abc' is"
        " not a number (1 such value beside 19 numbers); correct it, or list the column in data.categorical",
    ),
    (
        with_row(4, "abc", "Bern", 1),
        {},
        {},
        "data.path: houses.csv: line 6, column 'age': 'abc' is"
        " not a number (1 such value beside 19 numbers); correct it, or list the column in data.categorical",
    ),
    (
        with_row(4, 1, "Bern", "?"),
        {},
        {},
        "data.path: houses.csv: line 6, column 'price': '?' is not"
        " a number (1 such value beside 19 numbers); correct it, or set loss to cross_entropy if these are classes",
    ),
    (
        with_row(4, 1, "Bern", "?"),
        {},
        {"loss": "mse"},
        "data.path: houses.csv: line 6, column 'price': '?' is not"
        " a number (1 such value beside 19 numbers); correct it, or set loss to cross_entropy if these are classes",
    ),
    (
        with_row(7, "NA", "Bern", 1),
        {},
        {},
        "data.missing: column 'age' has 1 missing value, at houses.csv: line 9; set data.missing to drop or mean",
    ),
    (
        with_row(7, 1, None, 1),
        {},
        {},
        "data.missing: column 'city' has 1 missing value, at houses.csv: line 9; set data.missing to drop or mean",
    ),
    (
        with_row(7, 1, "Bern", None),
        {"missing": "mean"},
        {},
        "data.target: column 'price' has 1 missing value, at"
        " houses.csv: line 9; fill them in, or set data.missing to drop",
    ),
    (
        with_row(7, "inf", "Bern", 1),
        {"missing": "mean"},
        {},
        "data.path: houses.csv: line 9, column 'age': inf is not finite (1 such value); correct it or leave it empty",
    ),
    (
        with_row(7, 1, "Bern", "-inf"),
        {},
        {},
        "data.path: houses.csv: line 9, column 'price': -inf is not"
        " finite (1 such value); correct it or leave it empty",
    ),
    (
        with_row(7, -1, "Bern", 1),
        {"weight": "age"},
        {},
        "data.weight: column 'age' is -1 at houses.csv: line 9; weights must be 0 or more",
    ),
    (
        [(0, *row[1:]) for row in GOOD],
        {"weight": "age"},
        {},
        "data.weight: column 'age' is 0 in every row; at least one weight must be above 0",
    ),
    (
        GOOD,
        {"categorical": ["price"], "target": "age"},
        {},
        "data.categorical: column 'price' has 0.5 at houses.csv:"
        " line 2; a category is text or a whole number; list the column in data.numeric",
    ),
    (
        GOOD,
        {},
        {"training": {"global_batch_size": 64}},
        "training.global_batch_size: 64 rows, but there are only 20 training rows; use at most 20",
    ),
    (
        [(row[0], "Bern", row[2]) for row in GOOD],
        {"target": "city"},
        {},
        "data.target: the training rows have 1 class (Bern); at least 2 needed",
    ),
]


@pytest.mark.parametrize(("rows", "data", "sections", "message"), DATA_CASES)
def test_data_that_do_not_fit(
    prepared: Prepare, write_csv: WriteCsv, rows: Any, data: dict[str, Any], sections: dict[str, Any], message: str
) -> None:
    write_csv("age,city,price", rows)
    data = {"path": "houses.csv", "split": EVERYTHING, **data}
    assert message_of(lambda: prepared(sections, **data), DataError) == message


CONFIG_CASES: list[tuple[dict[str, Any], dict[str, Any], str]] = [
    (
        {"numeric": ["age"], "categorical": ["age"]},
        {},
        "data.categorical: age also listed in data.numeric; keep a column in one of them",
    ),
    ({"numeric": ["age", "price"]}, {}, "data.numeric: price is the target, so it cannot be an input; remove it"),
    (
        {"numeric": ["age"], "weight": "age"},
        {},
        "data.numeric: age is the weight (data.weight), so it cannot be an input; remove it",
    ),
    ({"target": "price", "weight": "price"}, {}, "data.weight: price is the target too; name another column"),
    (
        {"target": ["price", "age"], "categorical": []},
        {},
        "data.numeric: no input column is left beside the target price, age; columns: age, city, price",
    ),
    ({"target": []}, {}, "data.target: an empty list; name at least one column"),
    (
        {"target": "city"},
        {"loss": "mse"},
        "loss: mse: numbers are expected, but column 'city' holds text such as 'Genf'; use cross_entropy for classes",
    ),
    (
        {},
        {"loss": "cross_entropy"},
        "loss: cross_entropy: classes are whole numbers or text, but column 'price' has 0.5"
        " at houses.csv: line 2; use mse, mae or huber for numbers",
    ),
    (
        {"target": "age"},
        {"loss": "binary_cross_entropy"},
        "loss: binary_cross_entropy: column 'age' has values other"
        " than 0 and 1 (or true and false), such as 20 at houses.csv: line 2; use cross_entropy for one column of"
        " classes",
    ),
    (
        {"target": "city"},
        {"loss": "binary_cross_entropy"},
        "loss: binary_cross_entropy: column 'city' has values other"
        " than 0 and 1 (or true and false), such as 'Genf'; use cross_entropy for one column of classes",
    ),
    (
        {"target": ["age", "price"]},
        {"loss": "cross_entropy"},
        "loss: cross_entropy: one column of classes is expected,"
        " but data.target names 2: age, price; use binary_cross_entropy for several labels, or mse for several numbers",
    ),
    (
        {"target": "inputs"},
        {"loss": "cross_entropy"},
        "loss: cross_entropy: an autoencoder (data.target: inputs) learns numbers; use mse, mae or huber",
    ),
    (
        {"target": "inputs", "numeric": []},
        {},
        "data.target: inputs: an autoencoder needs numeric columns, but there is none",
    ),
    (
        {"target": "city"},
        {"model": {"hidden": [8], "output_width": 10}},
        "model.output_width: 10, but the target has 2 classes; use 2 or auto",
    ),
    (
        {},
        {"model": {"hidden": [8], "output_width": 2}},
        "model.output_width: 2, but the target has 1 outputs; use 1 or auto",
    ),
    (
        {},
        {"model": {"hidden": [8], "input_width": 2}},
        "model.input_width: 2, but 1 numeric column and 1 embedding make 4; use 4 or auto",
    ),
    (
        {"target": "city"},
        {"loss": {"name": "cross_entropy", "class_weights": [1.0, 2.0, 3.0]}},
        "loss.class_weights: 3 weights but 2 classes; give one for each of Bern, Genf",
    ),
]


@pytest.mark.parametrize(("data", "sections", "message"), CONFIG_CASES)
def test_configuration_that_contradicts_the_data(
    prepared: Prepare, write_csv: WriteCsv, data: dict[str, Any], sections: dict[str, Any], message: str
) -> None:
    write_csv("age,city,price", GOOD)
    data = {"path": "houses.csv", "split": EVERYTHING, **data}
    model = sections.get("model", {"hidden": [8]})
    assert message_of(lambda: prepared({**sections, "model": model}, **data), ConfigError) == message


def test_positive_weights(prepared: Prepare, tmp_path: Path) -> None:
    np.savez(tmp_path / "m.npz", x=np.random.default_rng(0).normal(size=(20, 2)), y=np.eye(20, 3))
    loss = {"name": "binary_cross_entropy", "positive_weights": [1.0]}
    text = message_of(lambda: prepared({"loss": loss}, path="m.npz"), ConfigError)
    assert text == "loss.positive_weights: 1 weight but 3 labels; give one for each of y.0, y.1, y.2"


def test_all_problems_in_one_report(prepared: Prepare, write_csv: WriteCsv) -> None:
    write_csv("age,city,price", with_row(3, None, None, "inf"))
    with pytest.raises(DataError) as caught:
        prepared(path="houses.csv")
    assert [line.split(":")[0] for line in caught.value.messages] == ["data.missing", "data.missing", "data.path"]


def labelled(write_csv: WriteCsv, labels: list[Any]) -> None:
    write_csv("a,y", [(index / 7, label) for index, label in enumerate(labels)])


def test_more_output_width_than_seen_classes_is_allowed(prepared: Prepare, write_csv: WriteCsv) -> None:
    labelled(write_csv, [0, 1, 2, 5] * 10)
    data = prepared({"model": {"hidden": [8], "output_width": 10}}, path="houses.csv")
    assert data.preprocessing.class_labels == tuple(range(10)) and data.shape.output_width == 10


def test_a_stray_label_is_out_of_range(prepared: Prepare, write_csv: WriteCsv) -> None:
    labelled(write_csv, [*list(range(10)) * 8, 10])
    sections = {"model": {"hidden": [8], "output_width": 10}}
    text = message_of(lambda: prepared(sections, path="houses.csv", split=EVERYTHING), DataError)
    assert text == "data.target: label 10 at houses.csv: line 82; classes are 0..9 (model.output_width: 10)"
    labelled(write_csv, [*list(range(9)) * 8, -1])
    text = message_of(lambda: prepared(sections, path="houses.csv", split=EVERYTHING), DataError)
    assert text.startswith("data.target: label -1 at houses.csv: line 74; classes are 0..9")


def test_a_width_below_the_classes_is_a_contradiction(prepared: Prepare) -> None:
    sections = {"model": {"hidden": [8], "output_width": 9}}
    text = message_of(lambda: prepared(sections, source="digits"), ConfigError)
    assert text == "model.output_width: 9, but the target has 10 classes; use 10 or auto"


def test_label_that_only_other_splits_have(prepared: Prepare, write_csv: WriteCsv) -> None:
    write_csv("a,y", [(1, "u"), (2, "v"), (3, "u"), (4, "v")], "train.csv")
    write_csv("a,y", [(1, "u"), (2, "w")], "test.csv")
    text = message_of(lambda: prepared(path={"train": "train.csv", "test": "test.csv"}), DataError)
    assert text == "data.target: label 'w' at test.csv: line 3 is not among the classes of the training rows (u, v)"


def test_unseen_category(prepared: Prepare, write_csv: WriteCsv) -> None:
    write_csv("c,y", [("u", 1.5), ("v", 2), ("u", 3), ("v", 4)], "train.csv")
    write_csv("c,y", [("u", 1), ("w", 2.5)], "test.csv")
    text = message_of(lambda: prepared(path={"train": "train.csv", "test": "test.csv"}), DataError)
    assert text == (
        "data.unseen: column 'c': the category 'w' at test.csv: line 3 is in none of the training rows "
        "(1 such categories); set data.unseen to unknown"
    )


def test_text_in_a_column_that_training_has_as_numbers(prepared: Prepare, write_csv: WriteCsv) -> None:
    write_csv("a,y", [(1, 1.5), (2, 2), (3, 3), (4, 4)], "train.csv")
    write_csv("a,y", [(1, 1), ("x", 2.5)], "test.csv")
    text = message_of(lambda: prepared(path={"train": "train.csv", "test": "test.csv"}), DataError)
    assert text.startswith("data.path: test.csv: line 3, column 'a': 'x' is not a number")


def test_targets_of_every_split_are_checked(prepared: Prepare, write_csv: WriteCsv) -> None:
    paths = {"train": "train.csv", "test": "test.csv"}
    write_csv("a,y", [(1.5, 0), (2, 1), (3, 0), (4, 1)] * 2, "train.csv")
    write_csv("a,y", [(1, 1), (2, 0.5)], "test.csv")
    text = message_of(lambda: prepared({"loss": "cross_entropy"}, path=paths), ConfigError)
    assert "column 'y' has 0.5 at test.csv: line 3" in text
    text = message_of(lambda: prepared({"loss": "binary_cross_entropy"}, path=paths), ConfigError)
    assert "such as 0.5 at test.csv: line 3" in text


def test_splits_with_different_columns(prepared: Prepare, write_csv: WriteCsv) -> None:
    write_csv("a,y", [(1, 1)], "train.csv")
    write_csv("b,y", [(1, 1)], "test.csv")
    text = message_of(lambda: prepared(path={"train": "train.csv", "test": "test.csv"}), DataError)
    assert text == (
        "data.path.test: lacks the columns a and has the further columns b; "
        "all files need the columns of the training files"
    )


def test_nan_in_npy_is_placed_by_row(prepared: Prepare, tmp_path: Path) -> None:
    array = np.random.default_rng(0).normal(size=(30, 3))
    array[17, 1] = np.nan
    np.save(tmp_path / "a.npy", array)
    text = message_of(lambda: prepared(path="a.npy"), DataError)
    assert text == "data.missing: column '1' has 1 missing value, at a.npy: row 18; set data.missing to drop or mean"


def test_drop_that_leaves_nothing(prepared: Prepare, write_csv: WriteCsv) -> None:
    write_csv("a,b,y", [(None if index % 2 else 1, 1 if index % 2 else None, index) for index in range(10)])
    assert "leaves no row of 10" in message_of(lambda: prepared(path="houses.csv", missing="drop"), DataError)


def test_errors_are_not_cached(prepared: Prepare, write_csv: WriteCsv, own_cache: Path) -> None:
    write_csv("age,city,price", with_row(7, None, "Bern", 1))
    for _ in range(2):
        with pytest.raises(DataError):
            prepared(path="houses.csv")
    assert not [entry for entry in own_cache.glob("fit-*") if entry.is_dir()]
