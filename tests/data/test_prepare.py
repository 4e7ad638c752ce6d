"""prepare(): what is inferred, what is fitted on which rows, and what comes out for the model."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from pyarrow import parquet

from pipemlp.config.section import Named
from pipemlp.data import Column, PreparedData, prepare, preparing, register_source
from pipemlp.data.shards import ingest as ingest_module

Prepare = Callable[..., PreparedData]
WriteCsv = Callable[..., Path]
SPLITS = ("train", "validation", "test")
HOUSES = [(20 + index, 0.5 * index, "Bern" if index % 3 else "Genf", 100.0 + 7.5 * index) for index in range(40)]


def all_rows(data: PreparedData, split: str) -> np.ndarray:
    return np.arange(data.num_rows(split))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("source", "task", "width", "num_numeric", "num_rows"),
    [
        ("digits", "classification", 10, 64, 1797),
        ("breast_cancer", "classification", 2, 30, 569),
        ("wine", "classification", 3, 13, 178),
        ("diabetes", "regression", 1, 10, 442),
    ],
)
def test_bundled(prepared: Prepare, source: str, task: str, width: int, num_numeric: int, num_rows: int) -> None:
    data = prepared(source=source)
    assert (data.shape.task, data.shape.output_width, data.shape.num_numeric) == (task, width, num_numeric)
    assert sum(data.shape.num_rows) == num_rows and data.shape.num_rows[1] == round(0.1 * num_rows)
    numbers, codes = data.inputs("train", all_rows(data, "train"))
    assert numbers.dtype == np.float32 and codes.shape == (data.shape.num_rows[0], 0)
    assert np.abs(numbers.mean(axis=0)).max() < 1e-5
    deviations = numbers.std(axis=0)
    assert np.all((np.abs(deviations - 1) < 1e-4) | (deviations == 0))
    target, weight = data.targets("train", all_rows(data, "train"))
    assert (weight == 1).all() and weight.dtype == np.float32
    if task == "classification":
        assert target.dtype == np.int64 and set(target.tolist()) == set(range(width))
        assert data.preprocessing.class_labels == tuple(range(width))
    else:
        assert target.dtype == np.float32 and target.shape[1] == 1 and abs(float(target.std()) - 1) < 1e-4


def test_csv_with_categories(prepared: Prepare, write_csv: WriteCsv) -> None:
    write_csv("age,size,city,price", HOUSES)
    data = prepared(path="houses.csv", missing="error")
    assert data.columns == (("age", "size"), ("city",), ("price",), None)
    assert data.shape.cardinalities == (3,) and data.shape.task == "regression"
    assert data.preprocessing.vocabularies == (("Bern", "Genf"),)
    assert "data.target: column 'price' (the last one)" in data.notes
    seen = []
    for split in SPLITS:
        numbers, codes = data.inputs(split, all_rows(data, split))
        target, _ = data.targets(split, all_rows(data, split))
        price = data.preprocessing.restore_targets(target)[:, 0]
        index = np.round((price - 100) / 7.5).astype(int)
        age = numbers[:, 0] * data.preprocessing.stds[0] + data.preprocessing.means[0]
        assert np.abs(age - 20 - index).max() < 1e-4
        assert (codes[:, 0] == np.where(index % 3, 1, 2)).all()
        seen += index.tolist()
    assert sorted(seen) == list(range(40))


def test_statistics_come_from_training_rows_only(prepared: Prepare, write_csv: WriteCsv) -> None:
    write_csv("a,y", [(index, 10 * index) for index in range(50)])
    data = prepared({"loss": "mse"}, path="houses.csv")
    table, rows = data.splits.locate("train", all_rows(data, "train"))
    trained = np.sort(rows).astype(float)
    assert len(trained) == 40
    assert data.preprocessing.means[0] == pytest.approx(trained.mean(), rel=1e-12)
    assert data.preprocessing.stds[0] == pytest.approx(trained.std(), rel=1e-12)
    assert data.preprocessing.target_stds[0] == pytest.approx(10 * trained.std(), rel=1e-12)
    others = prepared({"loss": "mse"}, path="houses.csv", split_seed=1)
    assert others.preprocessing.means != data.preprocessing.means


def test_test_rows_do_not_depend_on_the_validation_share(prepared: Prepare) -> None:
    chosen = []
    for validation in (0.0, 0.3):
        data = prepared(source="wine", split={"validation": validation, "test": 0.2})
        chosen.append(data.splits.locate("test", all_rows(data, "test"))[1].tolist())
    assert chosen[0] == chosen[1] and len(set(chosen[0])) == 36


def test_path_per_split(prepared: Prepare, write_csv: WriteCsv) -> None:
    write_csv("city,v,kind", [("a", 1, "x"), ("b", 3, "y"), ("a", 1, "x"), ("b", 3, "y")], "train.csv")
    write_csv("city,v,kind", [("b", 5, "y"), ("c", 3, "x")], "val.csv")
    paths = {"train": "train.csv", "validation": "val.csv"}
    data = prepared(path=paths, unseen="unknown")
    assert data.shape.num_rows == (4, 2, 0) and data.preprocessing.means == (2.0,)
    numbers, codes = data.inputs("validation", np.array([0, 1]))
    assert codes[:, 0].tolist() == [2, 0] and numbers[:, 0].tolist() == [3.0, 1.0]
    assert data.targets("validation", np.array([1, 0]))[0].tolist() == [0, 1]


def test_a_second_prepare_reads_no_file(
    prepared: Prepare, write_csv: WriteCsv, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write_csv("age,size,city,price", HOUSES)
    first = prepared(path="houses.csv")
    calls: list[Any] = []
    read_batches = ingest_module.read_batches
    monkeypatch.setattr(ingest_module, "read_batches", lambda *given: (calls.append(given), read_batches(*given))[1])
    gather = preparing.gather_facts
    monkeypatch.setattr(preparing, "gather_facts", lambda *given: (calls.append("facts"), gather(*given))[1])
    monkeypatch.setattr("pipemlp.data.shards.cache._hash_bytes", lambda *given: pytest.fail("hashed again"))
    second = prepared(path="houses.csv")
    assert not calls
    assert second.preprocessing == first.preprocessing and second.fingerprint == first.fingerprint
    assert second.notes == first.notes
    everything = np.arange(32)
    assert (second.inputs("train", everything)[0] == first.inputs("train", everything)[0]).all()
    monkeypatch.undo()
    monkeypatch.setenv("XDG_CACHE_HOME", str(path.parent / "cache"))
    path.write_text(path.read_text().replace("100.0", "101.0"))
    assert prepared(path="houses.csv").fingerprint != first.fingerprint


def test_fingerprint_follows_content_and_choices_not_the_place(prepared: Prepare, write_csv: WriteCsv) -> None:
    write_csv("age,size,city,price", HOUSES)
    write_csv("age,size,city,price", HOUSES, "copy.csv")
    first = prepared(path="houses.csv")
    assert prepared(path="copy.csv").fingerprint == first.fingerprint
    assert prepared(path="houses.csv", split_seed=3).fingerprint != first.fingerprint


def test_missing_mean_and_drop(prepared: Prepare, write_csv: WriteCsv) -> None:
    rows = [(index, "u" if index % 2 else "v", 2.5 * index) for index in range(30)]
    rows[3], rows[4] = (None, "u", 7.5), (4, None, 10.0)
    write_csv("a,c,y", rows)
    data = prepared(path="houses.csv", missing="mean")
    assert sum(data.shape.num_rows) == 30
    blocks = [data.inputs(split, all_rows(data, split)) for split in SPLITS]
    codes = np.concatenate([codes for _, codes in blocks])
    numbers = np.concatenate([numbers for numbers, _ in blocks])
    assert (codes == 0).sum() == 1 and (numbers == 0).sum() == 1 and np.isfinite(numbers).all()
    data = prepared(path="houses.csv", missing="drop")
    assert sum(data.shape.num_rows) == 28
    assert any("2 rows with missing values dropped, 28 left" in note for note in data.notes)
    targets = np.concatenate([data.targets(split, all_rows(data, split))[0] for split in SPLITS])
    restored = data.preprocessing.restore_targets(targets)[:, 0]
    assert sorted(np.round(restored / 2.5).astype(int)) == [index for index in range(30) if index not in (3, 4)]
    assert prepared(path="houses.csv", missing="drop").shape == data.shape


def test_drop_also_drops_rows_without_target(prepared: Prepare, write_csv: WriteCsv) -> None:
    write_csv("a,y", [(index, index / 3 if index != 5 else None) for index in range(20)])
    assert sum(prepared(path="houses.csv", missing="drop").shape.num_rows) == 19


@pytest.mark.parametrize(
    ("values", "loss", "task", "width"),
    [
        (["a", "b"] * 10, "auto", "classification", 2),
        (["true", "false"] * 10, "auto", "classification", 2),
        ([3, 5, 9, 3] * 5, "auto", "classification", 3),
        ([3, 5, 9, 3] * 5, "mse", "regression", 1),
        ([0, 1] * 10, "binary_cross_entropy", "multilabel", 1),
        (["True", "False"] * 10, "binary_cross_entropy", "multilabel", 1),
        (list(range(20)), "auto", "regression", 1),
        ([0.5, 1.0] * 10, "huber", "regression", 1),
        ([0.5, 1.0] * 10, "auto", "regression", 1),
    ],
)
def test_task(prepared: Prepare, write_csv: WriteCsv, values: list[Any], loss: str, task: str, width: int) -> None:
    write_csv("a,b", [(index, value) for index, value in enumerate(values)])
    data = prepared({"loss": loss}, path="houses.csv", split={"validation": 0.0, "test": 0.0})
    assert (data.shape.task, data.shape.output_width) == (task, width)
    target, _ = data.targets("train", all_rows(data, "train"))
    assert target.shape == ((20,) if task == "classification" else (20, 1))
    if task == "multilabel":
        truth = [float(str(value).lower() in ("1", "true")) for value in values]
        _, rows = data.splits.locate("train", all_rows(data, "train"))
        assert target[:, 0].tolist() == [truth[row] for row in rows]


def test_labels_keep_their_type(prepared: Prepare, write_csv: WriteCsv) -> None:
    write_csv("a,y", [(index, [7, -2][index % 2]) for index in range(20)])
    data = prepared(path="houses.csv")
    assert data.preprocessing.class_labels == (-2, 7)
    assert data.preprocessing.restore_targets(np.array([0, 1])).tolist() == [-2, 7]


def test_several_targets(prepared: Prepare, tmp_path: Path) -> None:
    draws = np.random.default_rng(0)
    np.savez(tmp_path / "m.npz", x=draws.normal(size=(40, 3)), y=draws.integers(0, 2, (40, 4)), z=np.zeros(40))
    data = prepared(path="m.npz", numeric=["x"])
    assert data.columns.targets == ("y.0", "y.1", "y.2", "y.3") and data.shape.task == "multilabel"
    assert data.targets("test", np.array([0]))[0].shape == (1, 4)
    data = prepared({"loss": "mse"}, path="m.npz", target=["x.0", "y"], numeric=["x.1"])
    assert data.shape.output_width == 5 and data.shape.num_numeric == 1


@pytest.mark.parametrize(("target", "name"), [(-1, "2"), (0, "0"), ("1", "1"), ("auto", "2")])
def test_npy_target_by_index(prepared: Prepare, tmp_path: Path, target: int | str, name: str) -> None:
    np.save(tmp_path / "a.npy", np.random.default_rng(0).normal(size=(30, 3)).astype(np.float32))
    data = prepared(path="a.npy", target=target)
    assert data.columns.targets == (name,) and name not in data.columns.numeric
    assert data.shape.task == "regression"


def test_autoencoder(prepared: Prepare) -> None:
    data = prepared(source="diabetes", target="inputs", numeric="auto")
    assert data.shape.output_width == data.shape.num_numeric == 11 and data.preprocessing.is_autoencoder
    positions = np.array([3, 1, 4])
    assert (data.targets("train", positions)[0] == data.inputs("train", positions)[0]).all()


def test_weights(prepared: Prepare, write_csv: WriteCsv) -> None:
    write_csv("a,w,y", [(index, index / 2, index / 3) for index in range(20)])
    data = prepared(path="houses.csv", weight="w")
    assert data.columns.numeric == ("a",) and data.columns.weight == "w"
    positions = all_rows(data, "train")
    target, weight = data.targets("train", positions)
    assert weight == pytest.approx(data.preprocessing.restore_targets(target)[:, 0] * 1.5, abs=1e-5)


def test_whole_numbers_as_categories(prepared: Prepare, tmp_path: Path) -> None:
    store = np.arange(40) % 4 * 10
    table = pa.table({"store": store, "v": np.arange(40) / 7, "y": np.arange(40) / 3})
    parquet.write_table(table, tmp_path / "s.parquet")
    data = prepared(path="s.parquet", categorical=["store"])
    assert data.preprocessing.vocabularies == ((0, 10, 20, 30),) and data.columns.numeric == ("v",)
    _, codes = data.inputs("train", all_rows(data, "train"))
    _, rows = data.splits.locate("train", all_rows(data, "train"))
    assert (codes[:, 0] == rows % 4 + 1).all()


def test_text_that_spells_numbers_can_be_numeric(prepared: Prepare, write_csv: WriteCsv) -> None:
    write_csv("code,y", [(f"0{index}", index / 3) for index in range(20)])
    data = prepared(path="houses.csv", numeric=["code"])
    again = prepared(path="houses.csv", numeric=["code"])
    _, rows = data.splits.locate("train", all_rows(data, "train"))
    for one in (data, again):
        numbers, _ = one.inputs("train", all_rows(one, "train"))
        assert numbers[:, 0] * one.preprocessing.stds[0] + one.preprocessing.means[0] == pytest.approx(rows, abs=1e-5)


def test_teacher_of_hundred_million_rows(prepared: Prepare) -> None:
    data = prepared(source={"name": "teacher", "rows": 100_000_000, "inputs": 4, "classes": 30})
    assert sum(data.shape.num_rows) == 100_000_000 and data.shape.output_width == 30
    assert "data: statistics are fitted on the first 65,536 training rows" in data.notes
    numbers, _ = data.inputs("train", np.array([0, 79_999_999]))
    target, _ = data.targets("train", np.array([0, 79_999_999]))
    assert numbers.shape == (2, 4) and target.shape == (2,)


def test_teacher_with_several_outputs(prepared: Prepare) -> None:
    data = prepared(source={"name": "teacher", "rows": 500, "outputs": 3})
    assert data.columns.targets == ("y0", "y1", "y2") and data.shape.num_numeric == 32


class Spiral:
    """A plug-in's source: numbers, and a text column."""

    num_rows = 60
    columns = (Column("x", "number"), Column("side", "category"), Column("label", "category"))

    def read(self, rows: np.ndarray) -> dict[str, np.ndarray]:
        texts = np.array(["left", "right", None], dtype=object)
        return {"x": np.sin(rows), "side": texts[rows % 2], "label": texts[(rows // 2) % 2]}


class SpiralOptions(Named):
    """Options."""

    name: str = "spiral"
    turns: int = 1


def test_registered_source(prepared: Prepare, tmp_path: Path) -> None:
    given = []

    @register_source("spiral", SpiralOptions)
    def open_spiral(options: SpiralOptions, path: Path | None) -> Spiral:  # type: ignore[misc]
        given.append((options.turns, path))
        return Spiral()

    data = prepared(source={"name": "spiral", "turns": 3}, path="some/where.bin")
    assert given == [(3, tmp_path / "some/where.bin")]
    assert data.shape.task == "classification" and data.columns.targets == ("label",)
    _, rows = data.splits.locate("train", all_rows(data, "train"))
    assert (data.inputs("train", all_rows(data, "train"))[1][:, 0] == rows % 2 + 1).all()
    assert (data.targets("train", all_rows(data, "train"))[0] == rows // 2 % 2).all()


def test_transform_inputs_gives_what_training_saw(prepared: Prepare, write_csv: WriteCsv, tmp_path: Path) -> None:
    from pipemlp.data import stream_rows

    path = write_csv("age,size,city,price", HOUSES)
    data = prepared(path="houses.csv")
    batches = [data.preprocessing.transform_inputs(batch) for batch in stream_rows(path, 16)]
    numbers = np.concatenate([batch[0] for batch in batches])
    codes = np.concatenate([batch[1] for batch in batches])
    _, rows = data.splits.locate("train", all_rows(data, "train"))
    ours, our_codes = data.inputs("train", all_rows(data, "train"))
    assert (numbers[rows] == ours).all() and (codes[rows] == our_codes).all()


def test_progress_is_told(make_config: Callable[..., Any], write_csv: WriteCsv, tmp_path: Path) -> None:
    write_csv("age,size,city,price", HOUSES)
    told: list[tuple[str, float]] = []
    prepare(make_config({"path": "houses.csv"}), tmp_path, lambda text, fraction: told.append((text, fraction)))
    assert {text for text, _ in told} == {"reading houses.csv", "checking values", "fitting statistics"}
    assert all(0 <= fraction <= 1 for _, fraction in told)
