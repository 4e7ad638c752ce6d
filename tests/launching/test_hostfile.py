import subprocess
import sys

import pytest

from pipemlp.config.errors import ClusterError
from pipemlp.launching.hostfile import Host, main, read_hostfile


def write(tmp_path, text):
    path = tmp_path / "hosts"
    path.write_text(text)
    return path


def test_read(tmp_path):
    path = write(
        tmp_path, "# the cluster\n\nworker-1 slots=4\r\n  node_2.example.org\tslots=4  # the second\n10.0.0.3 slots=4"
    )
    assert read_hostfile(path) == (Host("worker-1", 4), Host("node_2.example.org", 4), Host("10.0.0.3", 4))


def test_the_example(request):
    path = request.config.rootpath / "launch" / "hostfile.example"
    assert read_hostfile(path) == (Host("worker-1", 8), Host("worker-2", 8))


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("-oProxyCommand=touch${IFS}/x slots=4", "is not a host name"),
        ("--help slots=4", "is not a host name"),
        ("host;id slots=4", "is not a host name"),
        ("user@host slots=4", "is not a host name"),
        ("$(id) slots=4", "is not a host name"),
        ("hóst slots=4", "is not a host name"),
        ("host", "is not of the form HOST slots=N, such as host slots=8"),
        ("host 4", "is not of the form"),
        ("host slots=", "is not of the form"),
        ("host slots=-1", "is not of the form"),
        ("host slots=²", "is not of the form"),
        ("host slots=4x", "is not of the form"),
        ("host slots=4 max=8", "is not of the form"),
        ("host slots = 4", "is not of the form"),
        ("host slots=0", "a host takes at least 1 process"),
        ("first slots=4", "first is already on line 1; name it once"),
        ("host slots=2", "host has slots=2, but first has slots=4; give every host the same number"),
        ("# text\u2028host slots=2\u2028", None),
        ("a slots=4\x0b-oX slots=4", "is not of the form"),
    ],
)
def test_lines_that_are_refused(tmp_path, line, message):
    path = write(tmp_path, f"first slots=4\n{line}\n")
    if message is None:
        assert read_hostfile(path) == (Host("first", 4),)
        return
    with pytest.raises(ClusterError) as error:
        read_hostfile(path)
    assert str(error.value).startswith(f"{path}:2: ")
    assert message in str(error.value)
    assert error.value.exit_code == 5


def test_all_problems_at_once(tmp_path):
    with pytest.raises(ClusterError) as error:
        read_hostfile(write(tmp_path, "-x slots=1\na slots=0\n\nb\n"))
    assert [message.split(": ")[0].rsplit(":")[-1] for message in error.value.messages] == ["1", "2", "4"]


def test_files_that_are_none(tmp_path):
    binary = tmp_path / "binary"
    binary.write_bytes(b"\xff\xfe\x00")
    cases = {
        tmp_path / "missing": "there is no such hostfile",
        tmp_path: "cannot read the hostfile (Is a directory)",
        binary: "it is not a text file",
        write(tmp_path, "# nobody\n\n"): "names no host",
    }
    for path, message in cases.items():
        with pytest.raises(ClusterError) as error:
            read_hostfile(path)
        assert str(error.value).startswith(f"{path}: ")
        assert message in str(error.value)


def test_main(tmp_path, capsys):
    path = write(tmp_path, "a slots=4\nb slots=4\n")
    assert main([str(path)]) == 0
    assert capsys.readouterr().out == f"{path}: 2 hosts x 4 slots = 8 processes\n"
    assert main([str(tmp_path / "missing")]) == 5
    assert "there is no such hostfile" in capsys.readouterr().err
    assert main([]) == 2
    assert "usage" in capsys.readouterr().err


def test_as_a_module(tmp_path):
    command = [sys.executable, "-m", "pipemlp.launching.hostfile", str(tmp_path / "missing")]
    result = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert result.returncode == 5
    assert result.stderr.count("\n") == 1
