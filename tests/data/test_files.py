"""Every file format gives the same rows, in batches of any size, and damaged files are named."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from pyarrow import csv, parquet

from pipemlp.config.data import DataConfig
from pipemlp.config.errors import ConfigError, DataError
from pipemlp.data import RowWriter, open_source, stream_rows
from pipemlp.data.shards import ingest as ingest_module
from pipemlp.data.shards.ingest import ingest
from pipemlp.data.shards.mapped import open_ingested

NUMBERS = np.random.default_rng(0).normal(size=(60, 3))
CITIES = np.array(["Bern", "Genf", None, "Chur"], dtype=object)[np.random.default_rng(1).integers(0, 4, 60)]


def write_table(folder: Path, kind: str) -> Path:
    path = folder / f"rows.{kind}"
    if kind == "npy":
        np.save(path, NUMBERS)
    elif kind == "npz":
        np.savez(path, x=NUMBERS[:, :2], y=NUMBERS[:, 2])
    else:
        table = pa.table({"a": NUMBERS[:, 0], "b": NUMBERS[:, 1], "c": NUMBERS[:, 2], "city": pa.array(CITIES)})
        (csv.write_csv if kind == "csv" else parquet.write_table)(table, path)
    return path


@pytest.mark.parametrize("kind", ["csv", "parquet", "npy", "npz"])
def test_random_access_gives_the_rows_of_the_file(tmp_path: Path, kind: str) -> None:
    source = open_source(DataConfig(path=write_table(tmp_path, kind).name), tmp_path)
    assert source.num_rows == 60
    rows = np.array([59, 0, 7, 7, 30])
    found = source.read(rows)
    names = {"npy": ["0", "1", "2"], "npz": ["x.0", "x.1", "y"]}.get(kind, ["a", "b", "c"])
    for index, name in enumerate(names):
        assert (found[name] == NUMBERS[rows, index]).all()
    if kind in ("csv", "parquet"):
        assert found["city"].tolist() == CITIES[rows].tolist()
        assert [column.kind for column in source.columns] == ["number"] * 3 + ["category"]


@pytest.mark.parametrize("kind", ["csv", "parquet", "npz"])
@pytest.mark.parametrize("batch_rows", [1, 7, 60])
def test_ingest_in_small_batches_gives_the_same_files(tmp_path: Path, kind: str, batch_rows: int) -> None:
    file = write_table(tmp_path, kind)
    contents = []
    for name, size in (("whole", 1 << 16), ("small", batch_rows)):
        folder = tmp_path / name
        folder.mkdir()
        ingest(kind, (file,), ",", folder, batch_rows=size)
        contents.append({path.name: path.read_bytes() for path in folder.iterdir()})
    assert contents[0] == contents[1]


def test_ingest_holds_one_batch_at_a_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = write_table(tmp_path, "parquet")
    sizes = []
    blocks = ingest_module._blocks
    monkeypatch.setattr(ingest_module, "_blocks", lambda *given: (sizes.append(given[2].num_rows), blocks(*given))[1])
    (tmp_path / "out").mkdir()
    ingest("parquet", (file,), ",", tmp_path / "out", batch_rows=16)
    assert sizes == [16, 16, 16, 12]


def test_text_late_in_a_csv_column_makes_it_a_category(tmp_path: Path) -> None:
    file = tmp_path / "late.csv"
    file.write_text("a,b\n" + "".join(f"{index},{index}\n" for index in range(50)) + "x,1\nx,2\n")
    (tmp_path / "out").mkdir()
    ingest("csv", (file,), ",", tmp_path / "out", batch_rows=8)
    source = open_ingested(tmp_path / "out", "f")
    assert [column.kind for column in source.columns] == ["category", "number"]
    assert source.read(np.array([51, 0]))["a"].tolist() == ["x", "0"]
    assert source.mixed == {"a": (50, 2)}
    assert source.place(51) == "late.csv: line 53"


def test_codes_with_leading_zeros_and_quotes_stay_text(tmp_path: Path) -> None:
    (tmp_path / "p.csv").write_text('\ufeffzip,note,v\n00731,"a, ""b""\nc",0.5\n10115,NA, 7 \n')
    source = open_source(DataConfig(path="p.csv"), tmp_path)
    found = source.read(np.arange(2))
    assert found["zip"].tolist() == ["00731", "10115"]
    assert found["note"].tolist() == ['a, "b"\nc', None]
    assert found["v"].tolist() == [0.5, 7.0]


def test_parquet_types(tmp_path: Path) -> None:
    table = pa.table(
        {
            "small": pa.array([1, 2, None], pa.int16()),
            "flag": pa.array([True, False, None]),
            "day": pa.array([0, 1, 2], pa.date32()),
            "dict": pa.array(["u", "v", "u"]).dictionary_encode(),
            "big": pa.array([2**40, 1, 2], pa.int64()),
            "list": pa.array([[1], [2], [3]]),
        }
    )
    parquet.write_table(table, tmp_path / "t.parquet")
    source = open_source(DataConfig(path="t.parquet"), tmp_path)
    kinds = {column.name: column.kind for column in source.columns}
    assert kinds == {"small": "number", "flag": "category", "day": "category", "dict": "category", "big": "number"}
    found = source.read(np.arange(3))
    assert found["small"].dtype == np.float32 and np.isnan(found["small"][2])
    assert found["flag"].tolist() == ["true", "false", None]
    assert found["day"].tolist() == ["1970-01-01", "1970-01-02", "1970-01-03"]
    assert found["big"][0] == 2**40


def test_glob_is_sorted_and_rows_are_placed_in_their_file(tmp_path: Path) -> None:
    for name, value in (("b", 2), ("a", 1)):
        (tmp_path / f"{name}.csv").write_text(f"v,w\n{value},1\n{value},text\n")
    source = open_source(DataConfig(path="*.csv"), tmp_path)
    assert source.read(np.arange(4))["v"].tolist() == [1, 1, 2, 2]
    assert source.place(2) == "b.csv: line 2"  # type: ignore[attr-defined]


def test_fortran_order_and_compressed_npz(tmp_path: Path) -> None:
    np.savez_compressed(tmp_path / "f.npz", x=np.asfortranarray(NUMBERS), y=np.arange(60) % 3, t=np.array(["u"] * 60))
    source = open_source(DataConfig(path="f.npz"), tmp_path)
    found = source.read(np.array([5, 50]))
    assert (found["x.1"] == NUMBERS[[5, 50], 1]).all() and found["y"].tolist() == [2, 2] and found["t"][0] == "u"


BAD_FILES: list[tuple[str, Callable[[Path], object], str]] = [
    ("a.csv", lambda path: path.write_text(""), "a.csv: the file is empty"),
    ("a.csv", lambda path: path.write_text("x,y\n"), "a.csv: no rows in it"),
    ("a.csv", lambda path: path.write_text("x,x,y\n1,2,3\n"), "a.csv: line 1 names 'x' twice"),
    ("a.csv", lambda path: path.write_text("0.5,1.5\n1,2\n"), "a.csv: line 1 holds numbers; a header line"),
    ("a.csv", lambda path: path.write_text("x,y\n1,2\n1,2,3\n4,5\n"), "the header has 2 columns, but line 3 has 3"),
    ("a.csv", lambda path: path.write_text("x;y\n1;2,5\n"), "is the delimiter ',' right"),
    ("a.csv", lambda path: path.write_bytes(b"x,y\n1,\xff\xfe\n"), "not UTF-8 text"),
    ("a.csv", lambda path: path.write_bytes(b"x\xff,y\n1,2\n"), "not UTF-8 text"),
    ("a.parquet", lambda path: path.write_bytes(b"PAR1 nonsense"), "a.parquet: not readable as Parquet"),
    ("a.parquet", lambda path: path.write_bytes(b""), "a.parquet: the file is empty"),
    ("a.npy", lambda path: np.save(path, np.zeros(3)), "an array of 1 dimensions"),
    ("a.npy", lambda path: np.save(path, np.array([[{}]], dtype=object)), "pickled Python objects"),
    ("a.npy", lambda path: np.save(path, np.array([["x"]])), "numbers are expected"),
    ("a.npy", lambda path: np.save(path, np.zeros((0, 3))), "no rows"),
    ("a.npy", lambda path: path.write_bytes(b""), "the file is empty"),
    ("a.npy", lambda path: path.write_bytes(b"nonsense"), "a.npy: "),
    ("a.npz", lambda path: path.write_bytes(b"nonsense"), "a.npz: not readable as npz"),
    ("a.npz", lambda path: np.savez(path, x=np.zeros((3, 2)), y=np.zeros(4)), "different numbers of rows: x has 3, y"),
    ("a.npz", lambda path: np.savez(path, x=np.array([{}], dtype=object)), "array 'x' holds pickled"),
    ("a.npz", lambda path: np.savez(path, x=np.zeros((2, 2, 2))), "array 'x' has 3 dimensions"),
    ("a.npz", lambda path: np.savez(path), "no arrays in it"),
    ("a.txt", lambda path: path.write_text("x\n1\n"), "unknown ending .txt; use one of .csv"),
]


@pytest.mark.parametrize(("name", "make", "message"), BAD_FILES)
def test_bad_files(tmp_path: Path, own_cache: Path, name: str, make: Callable[[Path], object], message: str) -> None:
    make(tmp_path / name)
    with pytest.raises((DataError, ConfigError), match=message) as caught:
        open_source(DataConfig(path=name), tmp_path)
    assert all(line.startswith("data.path: ") for line in caught.value.messages)
    assert not list(own_cache.glob("*.partial"))
    with pytest.raises((DataError, ConfigError)):
        list(stream_rows(tmp_path / name, 10))


def test_truncated_npz(tmp_path: Path) -> None:
    np.savez(tmp_path / "t.npz", x=np.zeros((1000, 3)))
    content = bytearray((tmp_path / "t.npz").read_bytes())
    content[5000:5100] = b"\x01" * 100
    (tmp_path / "t.npz").write_bytes(content)
    with pytest.raises(DataError, match="t.npz: not readable as npz: Bad CRC"):
        open_source(DataConfig(path="t.npz"), tmp_path)


def test_paths_that_name_nothing(tmp_path: Path) -> None:
    (tmp_path / "houses.csv").write_text("a,b\n1,2\n")
    for path, message in [
        ("hauses.csv", r"data.path: hauses.csv: no such file \(looked in .*\); did you mean houses.csv"),
        (".", "is a directory; name a file, or a glob"),
        ("*.parquet", "the glob matches no file"),
    ]:
        with pytest.raises(DataError, match=message):
            open_source(DataConfig(path=path), tmp_path)
    with pytest.raises(DataError, match="data.path.test: nowhere.csv: no such file"):
        paths = {"train": "houses.csv", "test": "nowhere.csv"}
        open_source(DataConfig.model_validate({"path": paths}), tmp_path, "test")
    with pytest.raises(ConfigError, match="source digits reads no file"):
        open_source(DataConfig.model_validate({"source": "digits", "path": "houses.csv"}), tmp_path)
    with pytest.raises(ConfigError, match="source csv needs a file"):
        open_source(DataConfig.model_validate({"source": "csv"}), tmp_path)


def test_current_folder_is_the_second_place_to_look(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "here").mkdir()
    (tmp_path / "here" / "h.csv").write_text("a,b\n1,2\n")
    monkeypatch.chdir(tmp_path / "here")
    assert open_source(DataConfig(path="h.csv"), tmp_path / "configs").num_rows == 1


def test_other_columns_in_the_second_file(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("x,y\n1,2\n")
    (tmp_path / "b.csv").write_text("x,z\n1,2\n")
    with pytest.raises(DataError, match="b.csv: lacks the columns y and has the further columns z"):
        open_source(DataConfig(path="*.csv"), tmp_path)


@pytest.mark.parametrize("kind", ["csv", "parquet", "npy"])
def test_written_rows_stream_back(tmp_path: Path, kind: str) -> None:
    path = tmp_path / f"out.{kind}"
    columns = {"0": np.arange(10, dtype=np.float32), "1": np.linspace(0, 1, 10)}
    if kind != "npy":
        columns["label"] = np.array(["a", "b,c"] * 5, dtype=object)
    with RowWriter(path, list(columns)) as writer:
        for start in (0, 4, 8):
            assert not path.exists()
            writer.write({name: values[start : start + 4] for name, values in columns.items()})
    batches = list(stream_rows(path, 3))
    assert [len(batch["0"]) for batch in batches] == [3, 3, 3, 1]
    assert np.concatenate([batch["0"] for batch in batches]).astype(float).tolist() == list(range(10))
    assert list(batches[0]) == list(columns)
    if kind == "npy":
        assert np.load(path).dtype == np.float32 and np.load(path).shape == (10, 2)
    else:
        assert np.concatenate([batch["label"] for batch in batches]).tolist() == columns["label"].tolist()
    assert [entry.name for entry in tmp_path.iterdir()] == [path.name]


def test_a_failed_write_leaves_nothing(tmp_path: Path) -> None:
    for name in ("out.csv", "out.npy", "out.parquet"):
        with pytest.raises(RuntimeError), RowWriter(tmp_path / name, ["a"]) as writer:
            writer.write({"a": np.zeros(3)})
            raise RuntimeError
    with pytest.raises(DataError, match="column 'a' is text"), RowWriter(tmp_path / "out.npy", ["a"]) as writer:
        writer.write({"a": np.array(["x"])})
    with pytest.raises(ConfigError, match="unknown ending .txt"):
        RowWriter(tmp_path / "out.txt", ["a"])
    with pytest.raises(ConfigError, match="no such folder"):
        RowWriter(tmp_path / "none" / "out.csv", ["a"])
    assert not list(tmp_path.iterdir())


def test_empty_output(tmp_path: Path) -> None:
    for name in ("o.csv", "o.npy", "o.parquet"):
        RowWriter(tmp_path / name, ["a", "b"]).close()
    assert (tmp_path / "o.csv").read_text() == '"a","b"\n'
    assert np.load(tmp_path / "o.npy").shape == (0, 2)
    assert parquet.read_table(tmp_path / "o.parquet").num_rows == 0
