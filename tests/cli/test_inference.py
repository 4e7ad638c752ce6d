"""`evaluate` and `predict`: the run's own numbers again, in every file format, and nothing written on bad input."""

import json
import math
import shutil
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from commands import metrics_of
from damage import bit_flipped, deleted, open_to_all
from saved_model import save_untrained
from sklearn.datasets import load_digits
from table_run import rows_of, write_rows

import pipemlp as package
from pipemlp.config import load_config

SINGLE = 1e-5
"""float32 through five layers, in another order of sums."""


def test_evaluate_repeats_the_test_line_of_the_digits(digits_run, pipemlp):
    check_evaluate(digits_run.dir, pipemlp, "test")


@pytest.mark.parametrize("split", ["validation", "test"])
def test_evaluate_repeats_the_lines_of_the_table(table_run, pipemlp, split):
    check_evaluate(table_run.dir, pipemlp, split)


def check_evaluate(run_dir, pipemlp, split):
    answer = pipemlp("evaluate", run_dir, "--split", split, "--json")
    assert (answer.code, answer.err) == (0, "")
    values = json.loads(answer.out)
    line = [line for line in metrics_of(run_dir) if line["split"] == split][-1]
    assert values.keys() == line.keys() - {"step"}
    assert values.pop("split") == split
    for name, value in values.items():
        assert value == pytest.approx(line[name], rel=1e-6, abs=1e-6), name


def test_evaluate_shows_a_table(table_run, pipemlp):
    answer = pipemlp("evaluate", table_run.dir)
    assert answer.out.splitlines()[0] == f"test rows of {table_run.dir}"
    assert {line.split()[0] for line in answer.out.splitlines()[1:] if line.strip()} == {"loss", "rmse", "mae", "r2"}


def plain_predictions(run_dir, rows):
    """By the model in plain torch, from the columns as they are written."""
    model = package.load_model(run_dir)
    learned = model.preprocessing
    numeric = torch.tensor([[float(row[name]) for name in learned.numeric] for row in rows], dtype=torch.float64)
    columns = list(zip(learned.categorical, learned.vocabularies, strict=True))
    codes = torch.tensor([[known.index(row[name]) + 1 for name, known in columns] for row in rows], dtype=torch.int64)
    with torch.no_grad():
        return model(numeric, codes)[:, 0].numpy()


def test_predictions_are_those_of_the_plain_model_and_give_the_metrics(table_run, pipemlp):
    answer = pipemlp("predict", table_run.dir, table_run.folder / "test.csv", "--output", "prices.csv")
    assert (answer.code, answer.out, answer.err) == (0, "prices.csv: 37 rows\n", "")
    predicted = read_prices(Path("prices.csv"))
    rows = rows_of(table_run.folder / "test.csv")
    np.testing.assert_allclose(predicted, plain_predictions(table_run.dir, rows), rtol=SINGLE)
    true = np.array([float(row["price"]) for row in rows])
    errors = predicted - true
    values = json.loads(pipemlp("evaluate", table_run.dir, "--json").out)
    assert values["rmse"] == pytest.approx(math.sqrt((errors**2).mean()), rel=SINGLE)
    assert values["mae"] == pytest.approx(np.abs(errors).mean(), rel=SINGLE)
    assert values["r2"] == pytest.approx(1 - (errors**2).sum() / ((true - true.mean()) ** 2).sum(), rel=SINGLE)


def test_every_format_holds_the_same_predictions(table_run, pipemlp):
    rows = rows_of(table_run.folder / "test.csv")
    columns = {"kind": [row["kind"] for row in rows], "spare": [None] * len(rows)}
    columns |= {name: [float(row[name]) for row in rows] for name in ("rooms", "area")}
    pq.write_table(pa.table(columns), "test.parquet")
    for source, output in (
        (table_run.folder / "test.csv", "a.csv"),
        (table_run.folder / "test.csv", "b.parquet"),
        ("test.parquet", "c.npy"),
    ):
        assert pipemlp("predict", table_run.dir, source, "--output", output).code == 0
    expected = read_prices(Path("a.csv"))
    assert pq.read_table("b.parquet").column_names == ["price"]
    assert np.array_equal(read_prices(Path("b.parquet")), expected)
    array = np.load("c.npy")
    assert (array.shape, array.dtype) == ((37, 1), np.float32)
    assert np.array_equal(array[:, 0], expected.astype(np.float32))


def test_npy_in(tmp_path, pipemlp):
    """Columns of an array are `0`, `1`, ...; the model here has seen no training, which predictions do not need."""
    numbers = np.random.default_rng(0).normal(size=(40, 4)).astype(np.float32)
    np.save("all.npy", numbers)
    Path("array.yaml").write_text("data: {path: all.npy}\nmodel: {hidden: [6]}\ntraining: {global_batch_size: 8}\n")
    run_dir = tmp_path / "untrained"
    save_untrained(run_dir, load_config("array.yaml"))
    answer = pipemlp("predict", run_dir, "all.npy", "--output", "out.npy")
    assert (answer.code, answer.err) == (0, "")
    expected = plain_predictions(run_dir, [dict(zip("0123", row, strict=True)) for row in numbers.tolist()])
    np.testing.assert_allclose(np.load("out.npy")[:, 0], expected, rtol=SINGLE, atol=SINGLE)


def test_a_classification_gives_labels_and_probabilities(digits_run, pipemlp):
    data = load_digits()
    pq.write_table(pa.table(dict(zip(data.feature_names, data.data.T, strict=True))), "digits.parquet")
    assert pipemlp("predict", digits_run.dir, "digits.parquet", "--output", "classes.parquet").code == 0
    table = pq.read_table("classes.parquet")
    assert table.column_names == ["prediction", *(f"probability_{label}" for label in range(10))]
    chances = np.stack([table[f"probability_{label}"].to_numpy() for label in range(10)], axis=1)
    np.testing.assert_allclose(chances.sum(axis=1), 1.0)
    predicted = table["prediction"].to_numpy()
    assert np.array_equal(predicted, chances.argmax(axis=1))
    assert (predicted == data.target).mean() > 0.85


@pytest.mark.parametrize("ending", ["csv", "parquet", "npy"])
def test_batches_leave_no_trace(table_run, pipemlp, monkeypatch, ending):
    contents = []
    for batch_rows in (4096, 7):
        monkeypatch.setattr("pipemlp.training.inference.BATCH_ROWS", batch_rows)
        output = Path(f"{batch_rows}.{ending}")
        assert pipemlp("predict", table_run.dir, table_run.folder / "train.csv", "--output", output).code == 0
        contents.append(read_prices(output))
    np.testing.assert_allclose(*contents, rtol=SINGLE)  # a product of other height sums in another order


def read_prices(path):
    if path.suffix == ".csv":
        return np.array([float(row["price"]) for row in rows_of(path)])
    return pq.read_table(path)["price"].to_numpy() if path.suffix == ".parquet" else np.load(path)[:, 0]


GOOD = {"area": 80, "rooms": 3, "kind": "flat"}
BAD_ROWS = [
    ({**GOOD, "kind": "castle"}, "row 2, column 'kind': the category 'castle' was not in the training rows"),
    ({**GOOD, "area": "large"}, "row 2, column 'area': 'large' is not a number"),
    ({**GOOD, "area": "nan"}, "row 2, column 'area': the value is missing"),
    ({**GOOD, "rooms": ""}, "row 2, column 'rooms': the value is missing"),
    ({**GOOD, "rooms": "inf"}, "row 2, column 'rooms': inf is not finite"),
]


@pytest.mark.parametrize(("row", "message"), BAD_ROWS)
@pytest.mark.parametrize("ending", ["csv", "npy"])
def test_bad_rows_are_named_and_nothing_is_written(table_run, pipemlp, tmp_path, row, message, ending):
    write_rows(tmp_path / "rows.csv", [GOOD, row, GOOD])
    answer = pipemlp("predict", table_run.dir, tmp_path / "rows.csv", "--output", f"out.{ending}")
    assert_refused(answer, 3, message)


def test_a_bad_row_late_in_the_file_leaves_nothing_either(table_run, pipemlp, tmp_path, monkeypatch):
    monkeypatch.setattr("pipemlp.training.inference.BATCH_ROWS", 4)
    write_rows(tmp_path / "rows.csv", [GOOD] * 9 + [{**GOOD, "kind": "castle"}])
    answer = pipemlp("predict", table_run.dir, tmp_path / "rows.csv", "--output", "out.csv")
    assert_refused(answer, 3, "row 10, column 'kind': the category 'castle'")


def test_a_missing_column_is_named(table_run, pipemlp, tmp_path):
    write_rows(tmp_path / "rows.csv", [{"aera": 80, "rooms": 3, "kind": "flat"}])
    answer = pipemlp("predict", table_run.dir, tmp_path / "rows.csv", "--output", "out.csv")
    assert_refused(answer, 3, "no column 'area'; did you mean 'aera'?; the model needs area, rooms, kind")


@pytest.mark.parametrize(
    ("content", "message"), [(None, "no such file"), ("", "empty"), ("area,rooms,kind\n", "no rows")]
)
def test_no_rows_at_all(table_run, pipemlp, tmp_path, content, message):
    if content is not None:
        (tmp_path / "rows.csv").write_text(content)
    answer = pipemlp("predict", table_run.dir, tmp_path / "rows.csv", "--output", "out.csv")
    assert_refused(answer, 3, message)


@pytest.mark.parametrize(
    ("output", "message"),
    [
        ("{source}", "is the input; name another file"),
        ("{folder}/../{name}/rows.csv", "is the input; name another file"),
        ("out.txt", "unknown ending .txt; use .csv, .parquet, .npy"),
        ("out", "unknown ending (none)"),
        ("no/such/out.csv", "no such folder"),
        ("{folder}", "unknown ending"),
    ],
)
def test_places_that_cannot_be_written(table_run, pipemlp, tmp_path, output, message):
    source = write_rows(tmp_path / "rows.csv", [GOOD])
    before = source.read_text()
    output = output.format(source=source, folder=tmp_path, name=tmp_path.name)
    assert_refused(pipemlp("predict", table_run.dir, source, "--output", output), 2, message)
    assert source.read_text() == before


def cut(path):
    own(path).write_bytes(path.read_bytes()[:-2])


def own(path):
    """The copy is a link to the original until now."""
    content = path.read_bytes()
    path.unlink()
    path.write_bytes(content)
    return path


@pytest.mark.parametrize(
    ("name", "spoil", "message"),
    [
        ("layer-00002.safetensors", cut, "layer-00002.safetensors: damaged"),
        ("layer-00002.safetensors", lambda path: bit_flipped(own(path)), "layer-00002.safetensors: damaged"),
        ("layer-00002.safetensors", lambda path: open_to_all(own(path)), "everybody may write it"),
        ("layer-00002.safetensors", deleted, "layer-00002.safetensors: missing"),
        ("index.json", cut, "index.json: damaged"),
        ("preprocessing.json", deleted, "preprocessing.json: missing"),
        ("MANIFEST.json", deleted, "MANIFEST.json is missing"),
        ("", shutil.rmtree, "no trained model yet; its newest checkpoint is "),
    ],
)
@pytest.mark.parametrize("command", ["evaluate", "predict"])
def test_a_spoilt_model(table_run, pipemlp, copied, tmp_path, name, spoil, message, command):
    run_dir = copied(table_run.dir)
    spoil(run_dir / "model" / name)
    more = [write_rows(tmp_path / "rows.csv", [GOOD]), "--output", "out.csv"] if command == "predict" else []
    assert_refused(pipemlp(command, run_dir, *more), 4, message)


@pytest.mark.parametrize("command", ["evaluate", "predict"])
def test_not_a_run_directory(pipemlp, tmp_path, command):
    more = [write_rows(tmp_path / "rows.csv", [GOOD]), "--output", "out.csv"] if command == "predict" else []
    assert_refused(pipemlp(command, tmp_path, *more), 2, "not a run directory (config.resolved.yaml is missing)")
    assert_refused(pipemlp(command, tmp_path / "none", *more), 2, "none: no such folder")


def test_a_split_that_the_run_does_not_have(pipemlp, table_run, copied):
    run_dir = copied(table_run.dir)
    path = run_dir / "config.resolved.yaml"
    lines = [line for line in path.read_text().splitlines() if not line.strip().startswith("test: ")]
    path.unlink()
    path.write_text("\n".join(lines) + "\n")
    assert_refused(pipemlp("evaluate", run_dir), 2, "--split test: the run has no such rows")


def assert_refused(answer, code, message):
    """One line on standard error, and an empty folder."""
    assert answer.code == code, answer
    assert message in answer.err
    assert answer.err.startswith("pipemlp: ") and answer.err.count("\n") == 1 and "Traceback" not in answer.err
    assert (answer.out, list(Path.cwd().iterdir())) == ("", [])
