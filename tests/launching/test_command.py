import os
import shlex
import sys
from pathlib import Path

import pytest

from pipemlp.config.errors import ClusterError, ConfigError
from pipemlp.launching.command import local_command, printable_command, visible_devices
from pipemlp.launching.environment import launcher_environment
from pipemlp.launching.ports import free_port
from pipemlp.launching.status import read_status
from pipemlp.launching.supervise import run_launcher


def test_local_command():
    command = local_command(Path("configs/digits.yaml"), 2, 29501, arguments=["training.epochs=3"])
    assert command[:3] == [sys.executable, "-m", "deepspeed.launcher.runner"]
    options = command[3 : command.index("--module")]
    assert options == [
        "--hostfile",
        "/dev/null",
        "--log_level",
        "critical",
        "--num_gpus",
        "2",
        "--master_port",
        "29501",
    ]
    assert command[command.index("--module") + 1 :] == ["pipemlp", "train", "configs/digits.yaml", "training.epochs=3"]


def test_chosen_devices():
    command = local_command(Path("a.yaml"), 2, 29500, devices=(2, 3))
    assert "--num_gpus" not in command
    assert command[command.index("--include") + 1] == "localhost:2,3"
    with pytest.raises(ValueError, match="3 devices for 2 processes"):
        local_command(Path("a.yaml"), 2, 29500, devices=(1, 2, 3))


def test_printable_command():
    line = printable_command(Path("configs/digits.yaml"), 2)
    assert line == "deepspeed --num_gpus 2 --module pipemlp train configs/digits.yaml"
    line = printable_command(Path("my configs/$(id).yaml"), 2, arguments=["run.name=a b"])
    assert shlex.split(line)[-2:] == ["my configs/$(id).yaml", "run.name=a b"]


def test_a_config_that_reads_as_an_option():
    with pytest.raises(ConfigError, match="write ./--save_pid"):
        local_command(Path("--save_pid"), 2, 29500)


@pytest.mark.parametrize(
    ("value", "expected"), [(None, None), ("2,3", (2, 3)), ("4, 5,6", (4, 5)), ("7,7", (7, 7)), ("0,1,", (0, 1))]
)
def test_visible_devices(value, expected):
    environ = {} if value is None else {"CUDA_VISIBLE_DEVICES": value}
    assert visible_devices(2, environ) == expected


@pytest.mark.parametrize(
    ("value", "message"),
    [("1", "shows 1 GPUs, but 2 processes"), ("", "shows 0 GPUs"), ("GPU-8f,GPU-9a", "takes GPU numbers only")],
)
def test_visible_devices_that_do_not_do(value, message):
    with pytest.raises(ClusterError) as error:
        visible_devices(2, {"CUDA_VISIBLE_DEVICES": value})
    assert message in str(error.value)


def test_through_the_launcher_itself(tmp_path, monkeypatch, capfd):
    """Four processes on CPUs, whatever their number; no chatter; a killed rank is told apart."""
    package = tmp_path / "pipemlp"
    package.mkdir()
    (package / "__init__.py").touch()
    (package / "__main__.py").write_text(
        "import os, signal, sys, time\n"
        "os.write(1, (' '.join([os.environ['RANK'], os.environ['WORLD_SIZE'], *sys.argv[1:]]) + '\\n').encode())\n"
        "open('started-' + os.environ['RANK'], 'w').close()\n"
        "while sum(name.startswith('started-') for name in os.listdir()) < 4: time.sleep(0.01)\n"
        "time.sleep(1.0)\n"
        "os.kill(os.getpid(), signal.SIGKILL) if os.environ['RANK'] == '2' else time.sleep(600)\n"
    )
    monkeypatch.chdir(tmp_path)
    command = local_command(Path("a b;$(id).yaml"), 4, free_port())
    assert run_launcher(command, tmp_path / "run", launcher_environment("cpu", os.environ)) == 6
    output, errors = capfd.readouterr()
    expected = [f"{rank} 4 --local_rank={rank} train a b;$(id).yaml" for rank in range(4)]
    assert sorted(line for line in output.splitlines() if "exits with return code" not in line) == expected
    assert "a rank was killed by signal 9 (SIGKILL)" in errors
    assert read_status(tmp_path / "run").exit_code == 6
