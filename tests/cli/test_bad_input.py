"""What a user can get wrong, as the commands answer it: one code, one message per problem, and nothing half-done."""

import socket
from pathlib import Path

import numpy as np
import pytest
from commands import PIPEMLP, Started

from pipemlp.launching.ports import free_port

BASE = """\
data: {source: {name: teacher, rows: 300, inputs: 4, classes: 3}}
model: {hidden: [8, 8]}
training: {epochs: 1, global_batch_size: 64}
"""
CONFIGS: dict[str, tuple[str, str]] = {
    "unknown section": ("modle: {hidden: [8]}", "a.yaml:4: modle: unknown key; did you mean model?"),
    "misspelt key": ("parallel: {stagse: 2}", "a.yaml:4: parallel.stagse: unknown key; did you mean parallel.stages?"),
    "duplicate key": ("loss: cross_entropy\nloss: mse", "a.yaml:5: loss: "),
    "wrong type": ("parallel: {stages: two}", 'a.yaml:4: parallel.stages: "two" is text; a whole number is expected'),
    "not a number": ("optimizer: {lr: .nan}", "a.yaml:4: optimizer.lr: nan is not a finite number"),
    "infinite": ("optimizer: {lr: .inf}", "a.yaml:4: optimizer.lr: inf is not a finite number"),
    "negative": ("optimizer: {lr: -1}", "a.yaml:4: optimizer.lr: -1 is too small; it must be above 0"),
    "zero": ("parallel: {stages: 0}", "a.yaml:4: parallel.stages: 0 is too small; at least 1"),
    "ZeRO 2": ("parallel: {zero_stage: 2}", "a.yaml:4: parallel.zero_stage: ZeRO 2 shards gradients as they are made"),
    "ZeRO 3": ("parallel: {zero_stage: 3}", "a.yaml:4: parallel.zero_stage: ZeRO 3 shards gradients as they are made"),
    "fp16": ("precision: fp16", "a.yaml:4: precision: fp16 is not offered: it needs loss scaling"),
    "not divisible": (
        "parallel: {data_parallel: 2, micro_batches: 5}",
        "training.global_batch_size: 64 is not divisible by data_parallel 2 x micro_batches 5 = 10; "
        "nearest valid values: 60 or 70",
    ),
    "more stages than layers": (
        "parallel: {stages: 8}",
        "a.yaml:4: parallel.stages: 8 stages but the model has 4 layers, 1 of them without parameters; use at most 3",
    ),
    "boundaries not increasing": ("parallel: {stages: 2, partition: [0, 3, 3]}", "a.yaml:4: parallel.partition: "),
    "boundaries not covering": ("parallel: {stages: 2, partition: [0, 2, 3]}", "a.yaml:4: parallel.partition: "),
    "too few boundaries": ("parallel: {stages: 2, partition: [0, 4]}", "a.yaml:4: parallel.partition: "),
    "unknown schedule": (
        "parallel: {schedule: zbv}",
        "a.yaml:4: parallel.schedule: unknown schedule 'zbv'; did you mean zb-v?",
    ),
    "virtual stages that the schedule has not": (
        "parallel: {schedule: 1f1b, virtual_stages: 2}",
        "a.yaml:4: parallel.virtual_stages: 1f1b with 2 virtual stages per stage; it takes 1",
    ),
    "too few layers for the virtual stages": (
        "parallel: {stages: 2, schedule: zb-v}",
        "a.yaml:4: parallel.stages: 2 stages x 2 virtual stages = 4 but the model has 4 layers, 1 of them without "
        "parameters; use at most 1",
    ),
    "too many virtual stages": (
        "parallel: {schedule: interleaved-1f1b, virtual_stages: 4}",
        "a.yaml:4: parallel.virtual_stages: 1 stage x 4 virtual stages = 4 but the model has 4 layers, 1 of them "
        "without parameters; use at most 3",
    ),
    "no such schedule file": ("parallel: {schedule: own.csv}", "a.yaml:4: parallel.schedule: own.csv: no such file"),
    "label dtype against loss": ("loss: binary_cross_entropy", "a.yaml:4: loss: binary_cross_entropy: "),
    "no such metric": ("evaluation: {metrics: [rmse]}", "a.yaml:4: evaluation.metrics: no metric 'rmse'"),
    "no such parent": ("extends: none.yaml", "none.yaml"),
}
OVERRIDES: dict[str, tuple[list[str], str]] = {
    "batch norm": (["model.norm=batch"], "command line: model.norm: "),
    "output width against classes": (
        ["model.output_width=2"],
        "command line: model.output_width: 2, but the target has 3 classes; use 3 or auto",
    ),
    "class weights": (["loss.name=cross_entropy", "loss.class_weights=[1, 2]"], "loss.class_weights: 2 weights but 3"),
    "no value": (["parallel.stages"], "parallel.stages"),
    "unknown source": (
        ["data.source=digitz"],
        'command line: data.source: unknown source "digitz"; did you mean digits?',
    ),
    "source that reads no file": (["data.path=a.csv"], "a.csv: source teacher reads no file"),
}


@pytest.fixture
def refused(pipemlp):
    """The lines of a refusal, the same from `validate` and `train`, which leave the folder as it is."""

    def refused(code: int, *arguments: object) -> list[str]:
        before = sorted(Path.cwd().rglob("*"))
        answers = [pipemlp(command, *arguments) for command in ("validate", "train")]
        assert answers[0] == answers[1]
        assert (answers[0].code, answers[0].out) == (code, ""), answers[0]
        assert sorted(Path.cwd().rglob("*")) == before
        lines = answers[0].err.splitlines()
        assert lines and all(line.startswith("pipemlp: ") for line in lines), lines
        return [line.removeprefix("pipemlp: ") for line in lines]

    return refused


@pytest.mark.parametrize(("text", "message"), CONFIGS.values(), ids=CONFIGS.keys())
def test_configs(refused, text, message):
    Path("a.yaml").write_text(f"{BASE}{text}\n")
    (line,) = refused(2, "a.yaml")
    assert message in line


SCHEDULES: dict[str, tuple[str, str]] = {
    "missing action": ("0F0,0F1,0B0\n1F0,1B0,1F1,1B1\n", "own.csv: row 1"),
    "doubled action": ("0F0,0F0,0F1,0B0,0B1\n1F0,1B0,1F1,1B1\n", "own.csv: row 1, column 2: 0F0"),
    "illegal action": ("0F0,0F1,0B0,0B1\n1B0,1F0,1F1,1B1\n", "own.csv: row 2, column 1: 1B0"),
    "no action": ("0F0,0F1,0B0,0B1\n1F0,,1x0,1F1,1B1\n", "own.csv: row 2, column 3: "),
    "they wait for each other": ("0F0,0B0,0F1,0B1\n1F1,1F0,1B0,1B1\n", "a circle"),
    "other stages": ("0F0,0F1,0B0,0B1\n", "parallel.stages: 2, but the schedule in "),
    "other micro-batches": ("0F0,0B0\n1F0,1B0\n", "parallel.micro_batches: 2, but the schedule in "),
    "not text": ("\x00", "own.csv: "),
}


@pytest.mark.parametrize(("text", "message"), SCHEDULES.values(), ids=SCHEDULES.keys())
def test_schedules_of_ones_own(refused, text, message):
    Path("a.yaml").write_text(f"{BASE}parallel: {{stages: 2, micro_batches: 2, schedule: own.csv}}\n")
    Path("own.csv").write_text(text)
    (line,) = refused(2, "a.yaml")
    assert line.startswith("a.yaml:4: parallel.") and message in line


@pytest.mark.parametrize(("overrides", "message"), OVERRIDES.values(), ids=OVERRIDES.keys())
def test_overrides(refused, overrides, message):
    Path("a.yaml").write_text(BASE)
    (line,) = refused(2, "a.yaml", *overrides)
    assert message in line


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("none.yaml", None, "none.yaml: "),
        ("folder", "", "folder: "),
        ("empty.yaml", "", "empty.yaml"),
        ("broken.yaml", "data: {source: digits\n", "broken.yaml:"),
        ("data.yaml", "data: {source: digits}\n", "model"),
        ("model.yaml", "model: {hidden: [8]}\n", "data"),
    ],
)
def test_files_that_are_no_configuration(refused, name, content, message):
    if name == "folder":
        Path(name).mkdir()
    elif content is not None:
        Path(name).write_text(content)
    assert any(message in line for line in refused(2, name))


def test_all_problems_in_one_report_in_the_order_of_the_file(refused):
    Path("a.yaml").write_text(f"{BASE}optimizer: {{lr: 0}}\nparallel: {{stages: 0, zero_stage: 3}}\nlos: mse\n")
    lines = refused(2, "a.yaml", "run.seed=-1")
    where = [line.split(": ")[:2] for line in lines]
    file = ["optimizer.lr", "parallel.stages", "parallel.zero_stage", "los"]
    assert where == [
        *[[f"a.yaml:{number}", key] for number, key in zip((4, 5, 5, 6), file, strict=True)],
        ["command line", "run.seed"],
    ]


TABLE = """\
data: {path: t.csv, split: {validation: 0, test: 0}}
model: {hidden: [8]}
training: {epochs: 1, global_batch_size: 4}
"""
GOOD_ROWS = "".join(f"{20 + n},{'Bern' if n % 2 else 'Genf'},{n + 0.5}\n" for n in range(12))
HEADER = "age,city,price\n"
TABLES: dict[str, tuple[str | bytes | None, list[str], str]] = {
    "missing file": (None, [], "a.yaml:1: data.path: t.csv: no such file"),
    "empty file": ("", [], "t.csv"),
    "zero rows": (HEADER, [], "t.csv"),
    "fewer rows than one batch": (
        HEADER + GOOD_ROWS,
        ["training.global_batch_size=64"],
        "training.global_batch_size: 64 rows, but there are only 12 training rows; use at most 12",
    ),
    "missing column": (HEADER + GOOD_ROWS, ["data.target=prize"], "no column 'prize'; did you mean 'price'?"),
    "ragged": (HEADER + GOOD_ROWS + "1,Bern\n", [], "data.path: t.csv: the header has 3 columns, but line 14 has 2"),
    "text in a numeric column": (
        HEADER + GOOD_ROWS + "old,Bern,1\n",
        [],
        "line 14, column 'age': 'old' is not a number",
    ),
    "missing value": (HEADER + GOOD_ROWS + ",Bern,1\n", [], "column 'age' has 1 missing value, at t.csv: line 14"),
    "NaN": (HEADER + GOOD_ROWS + "nan,Bern,1\n", [], "column 'age' has 1 missing value, at t.csv: line 14"),
    "infinity": (HEADER + GOOD_ROWS + "inf,Bern,1\n", [], "t.csv: line 14, column 'age': inf is not finite"),
    "not text at all": (b"\x00\xff\xfe" * 50, [], "t.csv"),
    "label out of range": (
        "a,y\n" + "".join(f"{n / 7},{n % 10}\n" for n in range(40)) + "1,10\n",
        ["loss=cross_entropy", "model.output_width=10"],
        "label 10 at t.csv: line 42; classes are 0..9",
    ),
}


@pytest.mark.parametrize(("content", "overrides", "message"), TABLES.values(), ids=TABLES.keys())
def test_tables(refused, content, overrides, message):
    Path("a.yaml").write_text(TABLE)
    if content is not None:
        Path("t.csv").write_bytes(content if isinstance(content, bytes) else content.encode())
    (line,) = refused(3, "a.yaml", *overrides)
    assert message in line


def test_a_folder_instead_of_a_file(refused):
    Path("a.yaml").write_text(TABLE)
    Path("t.csv").mkdir()
    assert refused(3, "a.yaml") == [
        "a.yaml:1: data.path: t.csv: is a directory; name a file, or a glob such as t.csv/*.csv"
    ]


def test_an_unseen_category(refused):
    Path("a.yaml").write_text("data: {path: {train: t.csv, test: u.csv}}\n" + TABLE.split("\n", 1)[1])
    Path("t.csv").write_text(HEADER + GOOD_ROWS)
    Path("u.csv").write_text(HEADER + "30,Basel,4.5\n")
    (line,) = refused(3, "a.yaml")
    assert "column 'city': the category 'Basel' at u.csv: line 2 is in none of the training rows" in line


def test_an_unknown_ending_is_a_mistake_of_the_configuration(refused):
    Path("a.yaml").write_text(TABLE.replace("t.csv", "t.xls"))
    Path("t.xls").write_bytes(b"1")
    (line,) = refused(2, "a.yaml")
    assert "data.path: t.xls: unknown ending .xls" in line


def test_a_damaged_array(refused):
    Path("a.yaml").write_text(TABLE.replace("t.csv", "t.npy"))
    np.save("t.npy", np.zeros((20, 3)))
    Path("t.npy").write_bytes(Path("t.npy").read_bytes()[:100])
    (line,) = refused(3, "a.yaml")
    assert "t.npy: damaged" in line


@pytest.mark.parametrize(
    ("prepare", "message"),
    [
        (lambda path: path.write_text("x"), "out: is a file; name a folder"),
        (lambda path: (path.mkdir(), (path / "notes.txt").write_text("x")), "out: is not empty (notes.txt"),
        (lambda path: (path.mkdir(), (path / "config.resolved.yaml").write_text(BASE)), "out: holds another run"),
    ],
)
def test_places_for_a_run_that_are_taken(pipemlp, prepare, message):
    Path("a.yaml").write_text(BASE)
    prepare(Path("out"))
    before = sorted(Path.cwd().rglob("*"))
    answer = pipemlp("train", "a.yaml", "run.dir=out")
    assert (answer.code, answer.out) == (2, "")
    assert answer.err.startswith("pipemlp: command line: run.dir: ") and message in answer.err
    assert sorted(Path.cwd().rglob("*")) == before


@pytest.mark.parametrize(
    ("num_gpus", "variables", "overrides", "message"),
    [
        (0, {}, ["run.device=cuda"], "run.device is cuda, but this machine has no GPU; set run.device=cpu or auto"),
        (2, {}, ["parallel.stages=3"], "3 processes on a machine with 2 GPUs: each process needs its own"),
        (2, {"CUDA_VISIBLE_DEVICES": "GPU-a,GPU-b"}, ["parallel.stages=2"], "takes GPU numbers only, such as 0,1"),
        (0, {"MASTER_PORT": "many"}, [], "MASTER_PORT=many is not a port; use 1024 to 65535"),
        (0, {"MASTER_PORT": "{taken}"}, [], "port {taken} is in use; set MASTER_PORT (or --master_port) to a free one"),
    ],
)
def test_the_machine_is_not_as_the_run_needs_it(
    pipemlp, taken_port, monkeypatch, num_gpus, variables, overrides, message
):
    Path("a.yaml").write_text(BASE)
    monkeypatch.setattr("pipemlp.training.startup.num_gpus", lambda: num_gpus)
    monkeypatch.setattr("pipemlp.launching.devices.num_gpus", lambda: num_gpus)
    for name, value in variables.items():
        monkeypatch.setenv(name, value.format(taken=taken_port))
    answer = pipemlp("train", "a.yaml", *overrides)
    assert (answer.code, answer.out) == (5, "")
    assert answer.err.startswith("pipemlp: ") and message.format(taken=taken_port) in answer.err
    assert answer.err.count("\n") == 1
    assert list(Path.cwd().iterdir()) == [Path.cwd() / "a.yaml"]


@pytest.fixture
def taken_port():
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        yield taken.getsockname()[1]


@pytest.mark.parametrize("command", ["validate", "train"])
@pytest.mark.parametrize(
    ("content", "reason"),
    [(None, "ModuleNotFoundError: No module named 'my_blocks'"), ("1 / 0\n", "ZeroDivisionError: division by zero")],
)
def test_a_plugin_that_cannot_be_imported(pipemlp, command, content, reason):
    Path("a.yaml").write_text(BASE)
    name = "my_blocks" if content is None else "my_broken_blocks"
    if content is not None:
        Path(f"{name}.py").write_text(content)
    answer = pipemlp(command, "a.yaml", "--plugin", name)
    assert (answer.code, answer.out) == (2, "")
    assert answer.err.startswith(f"pipemlp: --plugin {name}: cannot be imported: {reason}; ")


@pytest.mark.parametrize(
    "arguments", [[], ["trian"], ["validate"], ["validate", "a.yaml", "--jsn"], ["evaluate", ".", "--split", "tset"]]
)
def test_commands_that_do_not_exist(pipemlp, arguments):
    assert pipemlp(*arguments).code == 2


def test_a_world_of_another_size_is_refused_once_by_every_rank(tmp_path):
    """As torchrun would start them: the ranks find the same mistake, and the first one says it."""
    (tmp_path / "a.yaml").write_text(BASE)
    ranks = []
    for rank in range(2):
        place = {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": "3", "MASTER_ADDR": "127.0.0.1"}
        command = [*PIPEMLP, "train", "a.yaml", "parallel.stages=2", "parallel.data_parallel=2"]
        ranks.append(Started(command, tmp_path, **place, MASTER_PORT=str(free_port())))
    assert [run.wait() for run in ranks] == [5, 5]
    message = "parallel.stages 2 x parallel.data_parallel 2 = 4 processes, but 3 were started; start 4"
    assert [run.printed for run in ranks] == [f"rank 0: {message}\n", ""]
    assert not (tmp_path / "runs").exists()


def test_a_first_rank_whose_port_is_taken(tmp_path, taken_port):
    (tmp_path / "a.yaml").write_text(BASE)
    place = {"RANK": "0", "LOCAL_RANK": "0", "WORLD_SIZE": "1", "MASTER_ADDR": "127.0.0.1"}
    run = Started([*PIPEMLP, "train", "a.yaml"], tmp_path, **place, MASTER_PORT=str(taken_port))
    assert run.wait() == 5
    assert run.printed.startswith(f"rank 0: port {taken_port} is in use; set MASTER_PORT")
    assert not (tmp_path / "runs").exists()


def test_launcher_variables_that_contradict_each_other(pipemlp, monkeypatch):
    Path("a.yaml").write_text(BASE)
    for name, value in {"RANK": "3", "LOCAL_RANK": "0", "WORLD_SIZE": "2", "MASTER_PORT": "x"}.items():
        monkeypatch.setenv(name, value)
    answer = pipemlp("train", "a.yaml")
    assert answer.code == 5
    assert answer.err.splitlines() == [
        "pipemlp: MASTER_PORT='x' is not a number; 0, 1, 2, ... is expected",
        "pipemlp: MASTER_ADDR is not set; it names the host of rank 0, such as 127.0.0.1",
    ]
