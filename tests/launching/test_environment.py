import pytest

from pipemlp.config.errors import ClusterError
from pipemlp.launching.environment import WorkerEnvironment, launcher_environment

TORCHRUN = {
    "RANK": "5",
    "LOCAL_RANK": "1",
    "WORLD_SIZE": "8",
    "LOCAL_WORLD_SIZE": "4",
    "MASTER_ADDR": "node-1",
    "MASTER_PORT": "29500",
}


def test_torchrun():
    assert WorkerEnvironment.from_environ(TORCHRUN) == WorkerEnvironment(5, 1, 8, 4, "node-1", 29500)


def test_deepspeed_names_the_local_size_otherwise():
    environ = {**TORCHRUN, "LOCAL_SIZE": "4"}
    del environ["LOCAL_WORLD_SIZE"]
    assert WorkerEnvironment.from_environ(environ) == WorkerEnvironment(5, 1, 8, 4, "node-1", 29500)


def test_local_size_is_the_world_when_nobody_says():
    environ = {**TORCHRUN, "LOCAL_RANK": "5"}
    del environ["LOCAL_WORLD_SIZE"]
    assert WorkerEnvironment.from_environ(environ).local_world_size == 8


@pytest.mark.parametrize("missing", ["RANK", "LOCAL_RANK", "WORLD_SIZE"])
def test_no_worker_unless_all_three_are_set(missing):
    assert WorkerEnvironment.from_environ({k: v for k, v in TORCHRUN.items() if k != missing}) is None


def test_the_process_environment_is_the_default(monkeypatch):
    for name in TORCHRUN:
        monkeypatch.delenv(name, raising=False)
    assert WorkerEnvironment.from_environ() is None
    for name, value in TORCHRUN.items():
        monkeypatch.setenv(name, value)
    assert WorkerEnvironment.from_environ().rank == 5


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"RANK": "two"}, "RANK='two' is not a number"),
        ({"RANK": ""}, "RANK='' is not a number"),
        ({"LOCAL_RANK": "-1"}, "LOCAL_RANK='-1' is not a number"),
        ({"WORLD_SIZE": "1.5"}, "WORLD_SIZE='1.5' is not a number"),
        ({"WORLD_SIZE": "²"}, "is not a number"),
        ({"RANK": "8"}, "RANK=8 with WORLD_SIZE=8: ranks go from 0 to WORLD_SIZE - 1"),
        ({"LOCAL_RANK": "4"}, "LOCAL_RANK=4 with LOCAL_WORLD_SIZE=4"),
        ({"LOCAL_WORLD_SIZE": "9"}, "LOCAL_WORLD_SIZE=9 is more than WORLD_SIZE=8"),
        ({"MASTER_PORT": "0"}, "MASTER_PORT=0 is not a port"),
        ({"MASTER_PORT": "70000"}, "MASTER_PORT=70000 is not a port"),
        ({"MASTER_PORT": None}, "MASTER_PORT is not set"),
        ({"MASTER_ADDR": None}, "MASTER_ADDR is not set"),
        ({"MASTER_ADDR": ""}, "MASTER_ADDR is not set"),
    ],
)
def test_nonsense(changes, message):
    environ = {name: value for name, value in {**TORCHRUN, **changes}.items() if value is not None}
    with pytest.raises(ClusterError) as error:
        WorkerEnvironment.from_environ(environ)
    assert message in str(error.value)


def test_all_problems_at_once():
    with pytest.raises(ClusterError) as error:
        WorkerEnvironment.from_environ({**TORCHRUN, "RANK": "x", "WORLD_SIZE": "y", "MASTER_ADDR": ""})
    assert len(error.value.messages) == 3


def test_launcher_environment():
    environ = {"RANK": "0", "LOCAL_SIZE": "2", "MASTER_PORT": "1", "CUDA_VISIBLE_DEVICES": "2,3", "HOME": "/home/a"}
    assert launcher_environment("cpu", environ) == {"HOME": "/home/a", "DS_ACCELERATOR": "cpu"}
    assert launcher_environment("cuda", environ) == {"HOME": "/home/a"}
    assert environ["RANK"] == "0"


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"MASTER_ADDR": "127.0.0.1", "LOCAL_WORLD_SIZE": "8"}, True),
        ({"MASTER_ADDR": "localhost", "LOCAL_WORLD_SIZE": "8"}, True),
        ({"LOCAL_WORLD_SIZE": "8"}, False),
        ({"MASTER_ADDR": "127.0.0.1"}, False),
    ],
)
def test_who_meets_on_the_loopback_interface(changes, expected, monkeypatch):
    monkeypatch.delenv("TORCHELASTIC_RUN_ID", raising=False)
    environment = WorkerEnvironment.from_environ(TORCHRUN | changes)
    assert environment.is_on_loopback is expected
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "1")  # its agent serves the store
    assert not environment.is_on_loopback
