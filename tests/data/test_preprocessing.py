"""The preprocessing is a value: to JSON and back, and the same on new rows as in training."""

import dataclasses
import json

import numpy as np
import pytest

from pipemlp.config.errors import DataError, ModelFileError
from pipemlp.data import Preprocessing

LEARNED = Preprocessing(
    task="classification",
    numeric=("age", "size"),
    means=(30.0, 0.1),
    stds=(10.0, 1 / 3),
    categorical=("city", "store"),
    vocabularies=(("Bern", "Genf"), (3, 17)),
    targets=("kind",),
    target_means=(),
    target_stds=(),
    class_labels=("no", "yes"),
    missing="error",
    unseen="error",
    is_autoencoder=False,
)


def columns(**changes: object) -> dict[str, np.ndarray]:
    found: dict[str, object] = {"age": [20.0, 40.0], "size": [0.1, 0.1], "city": ["Genf", "Bern"], "store": [17, 3]}
    found |= changes
    return {name: np.array(values, dtype=object if name == "city" else None) for name, values in found.items()}


def test_json_round_trip() -> None:
    assert Preprocessing.from_json(json.loads(json.dumps(LEARNED.to_json()))) == LEARNED


def test_damaged_json_is_refused() -> None:
    with pytest.raises(ModelFileError, match="means"):
        Preprocessing.from_json({"task": "regression", "numeric": []})


def test_numbers_and_codes() -> None:
    numbers, codes = LEARNED.transform_inputs(columns())
    assert numbers.dtype == np.float32 and numbers.tolist() == [[-1.0, 0.0], [1.0, 0.0]]
    assert codes.dtype == np.int64 and codes.tolist() == [[2, 2], [1, 1]]


def test_texts_are_parsed() -> None:
    texts = columns(age=np.array(["20", " 4e1"], dtype=object), store=np.array(["17", "3"], dtype=object))
    for ours, theirs in zip(LEARNED.transform_inputs(texts), LEARNED.transform_inputs(columns()), strict=True):
        assert (ours == theirs).all()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"age": np.array(["20", "abc"], dtype=object)}, "row 102, column 'age': 'abc' is not a number"),
        ({"age": [np.nan, 1.0]}, "row 101, column 'age': the value is missing"),
        ({"age": [1.0, np.inf]}, "row 102, column 'age': inf is not finite"),
        ({"city": ["Genf", "Rom"]}, "row 102, column 'city': the category 'Rom' was not in the training rows"),
        ({"city": [None, "Bern"]}, "row 101, column 'city': the value is missing"),
        ({"store": [3, 4]}, "row 102, column 'store': the category '4'"),
    ],
)
def test_bad_values_name_row_and_column(changes: dict[str, object], message: str) -> None:
    with pytest.raises(DataError) as caught:
        LEARNED.transform_inputs(columns(**changes), first_row=100)
    assert len(caught.value.messages) == 1 and caught.value.messages[0].startswith(message)


def test_all_problems_in_one_report() -> None:
    with pytest.raises(DataError) as caught:
        LEARNED.transform_inputs(columns(age=[np.nan, np.nan], city=["x", "y"]))
    assert len(caught.value.messages) == 2 and "2 such values" in caught.value.messages[0]


def test_missing_column_is_named() -> None:
    found = columns()
    found["Age"] = found.pop("age")
    with pytest.raises(DataError, match="no column 'age'; did you mean 'Age'"):
        LEARNED.transform_inputs(found)


def test_lenient_policies_give_the_mean_and_the_unknown_code() -> None:
    lenient = dataclasses.replace(LEARNED, missing="mean", unseen="unknown")
    numbers, codes = lenient.transform_inputs(columns(age=[np.nan, 40.0], city=[None, "Rom"]))
    assert numbers[0, 0] == 0.0 and codes[:, 0].tolist() == [0, 0]


def test_drop_cannot_drop_rows_of_a_prediction() -> None:
    dropping = dataclasses.replace(LEARNED, missing="drop")
    with pytest.raises(DataError, match="drop cannot drop rows to predict"):
        dropping.transform_inputs(columns(age=[np.nan, 40.0]))


def test_restore_targets() -> None:
    assert LEARNED.restore_targets(np.array([1, 0])).tolist() == ["yes", "no"]
    numbers = dataclasses.replace(LEARNED, task="regression", target_means=(5.0,), target_stds=(2.0,))
    assert numbers.restore_targets(np.array([[1.0], [0.0]])).tolist() == [[7.0], [5.0]]
    labels = dataclasses.replace(LEARNED, class_labels=(3, 9))
    assert labels.restore_targets(np.array([1])).dtype == np.int64
    inputs = dataclasses.replace(LEARNED, task="regression", is_autoencoder=True)
    assert inputs.restore_targets(np.array([[1.0, 0.0]])).tolist() == [[40.0, 0.1]]
