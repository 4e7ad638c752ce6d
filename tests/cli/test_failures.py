"""Whoever dies, the whole job ends soon, says why once, and records it: real processes under the real launcher."""

import json
import signal
from dataclasses import dataclass
from pathlib import Path

import psutil
import pytest
from commands import PIPEMLP, SCRIPTS, Started

from pipemlp.launching.ports import free_port

CONFIG = """
data: {source: {name: teacher, rows: 64, inputs: 4}, split: {validation: 0, test: 0}}
model: {hidden: [8, 8]}
loss: mse
training: {steps: 100000, global_batch_size: 8}
parallel: {stages: 2, micro_batches: 2}
"""
PLUGIN = """
import pipemlp

calls = 0


@pipemlp.register_loss("stumbling", task="regression")
def stumbling(outputs, target, options):
    global calls
    calls += 1
    if calls == 5:  # two micro-batches a step, so this is step 3
        raise ArithmeticError("row 3 cannot be divided")
    return (outputs - target).square().mean(dim=1)


@pipemlp.register_loss("hopeless", task="regression")
def hopeless(outputs, target, options):
    return (outputs - target).square().mean(dim=1) * float("nan")
"""


@dataclass(frozen=True)
class Death:
    """Who gets which signal, and how the command and the run have to end."""

    victim: str
    signum: signal.Signals
    exit_code: int
    """Of the command."""
    recorded_code: int
    message: str
    by_hand: bool = False


DEATHS = {
    "a worker is killed": Death("worker-1", signal.SIGKILL, 6, 6, "a rank was killed by signal 9 (SIGKILL)"),
    "launch.py is killed": Death("launch", signal.SIGKILL, 5, 5, "the deepspeed launcher, process "),
    "the runner is killed": Death("runner", signal.SIGKILL, 5, 5, "the deepspeed launcher, process "),
    "pipemlp train is killed": Death("started", signal.SIGKILL, -9, 5, "pipemlp train, process"),
    "the runner is asked to end": Death("runner", signal.SIGTERM, -15, 5, "the deepspeed launcher, process", True),
}


def start(folder: Path, *arguments: str, by_hand: bool = False) -> Started:
    (folder / "long.yaml").write_text(CONFIG)
    (folder / "own_losses.py").write_text(PLUGIN)
    deepspeed = [str(SCRIPTS / "deepspeed"), "--num_gpus", "2", "--master_port", str(free_port())]
    command = [*deepspeed, "--module", "pipemlp"] if by_hand else PIPEMLP
    return Started([*command, "train", "long.yaml", "run.dir=run", *arguments], folder)


class Ahead:
    """Starts the run of a scenario while the one before it is looked at: starting up uses one core only."""

    def __init__(self, names: list[str], make_folder) -> None:
        self._waiting = names
        self._make_folder = make_folder
        self._started: dict[str, Started] = {}

    def take(self, name: str) -> Started:
        while self._waiting and (name not in self._started or len(self._started) < 2):
            upcoming = self._waiting.pop(0)
            self._started[upcoming] = start(self._make_folder("run"), by_hand=DEATHS[upcoming].by_hand)
        return self._started.pop(name)

    def end(self) -> None:
        for started in self._started.values():
            started.end()


@pytest.fixture(scope="module")
def ahead(request, tmp_path_factory):
    own = [item for item in request.session.items if item.path == request.path and hasattr(item, "callspec")]
    names = [item.callspec.params["name"] for item in own if "name" in item.callspec.params]
    ahead = Ahead(names, tmp_path_factory.mktemp)
    yield ahead
    ahead.end()


def status_of(folder: Path) -> dict:
    return json.loads((folder / "run" / "status.json").read_text())


def listeners(run: Started) -> list:
    found = [each for process in run.living() for each in process.net_connections("tcp")]
    return [each for each in found if each.status == psutil.CONN_LISTEN]


RARE = ("launch.py is killed", "the runner is killed", "pipemlp train is killed", "the runner is asked to end")
"""Each costs a whole start of two processes; the imitations in tests/launching stand for them in the short run."""


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=[pytest.mark.full] if name in RARE else []) for name in DEATHS]
)
def test_the_job_ends_when(ahead, name):
    death, run = DEATHS[name], ahead.take(name)
    try:
        run.wait_for_training(run.folder / "run")
        assert {each.laddr.ip for each in listeners(run)} == {"127.0.0.1"}, "nobody outside reaches a local run"
        run.find(death.victim).send_signal(death.signum)
        assert run.wait() == death.exit_code, run.printed
        run.wait_for_end()
    finally:
        run.end()
    status = status_of(run.folder)
    assert (status["state"], status["exit_code"]) == ("failed", death.recorded_code)
    assert death.message in status["message"]
    assert run.printed.count(status["message"]) == 1, run.printed
    assert "Traceback" not in run.printed
    if name == "a worker is killed":
        assert "left or stopped answering" in status["message"], "and what the other rank waited for"


def test_the_message_is_that_of_the_rank_that_failed(tmp_path):
    run = start(tmp_path, "--plugin", "own_losses", "loss=stumbling")
    try:
        assert run.wait() == 1, run.printed
        run.wait_for_end()
    finally:
        run.end()
    status = status_of(tmp_path)
    message = "ArithmeticError: row 3 cannot be divided"
    assert (status["state"], status["exit_code"], status["message"]) == ("failed", 1, message)
    log = tmp_path / "run" / "logs" / "rank-1.log"
    assert run.printed.count(message) == 1, run.printed
    assert f"rank 1: {message} (traceback in {log})\n" in run.out
    assert "Traceback" not in run.printed and "Traceback" in log.read_text()


def test_a_loss_that_is_no_number_is_said_once(tmp_path):
    """Every rank sees it; started by hand without any launcher, so nobody but the ranks can keep order."""
    port = str(free_port())
    folders = [tmp_path, tmp_path / "other"]
    ranks = []
    for rank, folder in enumerate(folders):
        folder.mkdir(exist_ok=True)
        (folder / "long.yaml").write_text(CONFIG)
        (folder / "own_losses.py").write_text(PLUGIN)
        place = {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": "2"}
        command = [*PIPEMLP, "train", "long.yaml", "loss=hopeless", "run.dir=run", "--plugin", "own_losses"]
        ranks.append(Started(command, folder, **place, MASTER_ADDR="127.0.0.1", MASTER_PORT=port))
    try:
        assert [run.wait() for run in ranks] == [6, 6], [run.printed for run in ranks]
    finally:
        for run in ranks:
            run.end()
    status = status_of(tmp_path)
    assert (status["state"], status["exit_code"]) == ("failed", 6)
    lost = "step 1: the loss is not finite (micro-batch 0, replica 0, stage 1)"
    assert status["message"].startswith(lost) and "lower optimizer.lr" in status["message"]
    assert "".join(run.printed for run in ranks).count(lost) == 1
