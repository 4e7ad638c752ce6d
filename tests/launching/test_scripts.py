"""The scripts for several machines: what reaches the launcher, and what is refused or said before."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

LAUNCH = Path(__file__).parents[2] / "launch"
RESUME = ("run.dir=runs/mine", "--resume", "auto")


@pytest.fixture
def script(tmp_path):
    """Runs a script with an interpreter that shows its arguments, one a line."""
    python = tmp_path / "venv" / "bin" / "python"
    python.parent.mkdir(parents=True)
    python.write_text('#!/bin/sh\nprintf "%s\\n" "$@"\n')
    python.chmod(0o755)
    (tmp_path / "home").mkdir()
    (tmp_path / "a.yaml").touch()
    environment = {
        "PATH": os.environ["PATH"],
        "VENV": str(tmp_path / "venv"),
        "HOME": str(tmp_path / "home"),
        "HOSTFILE": "hosts",
    }

    def run(name, *arguments, **variables):
        return subprocess.run(
            ["bash", str(LAUNCH / name), *arguments],
            cwd=tmp_path,
            env=environment | variables,
            capture_output=True,
            text=True,
            check=False,
        )

    return run


@pytest.mark.parametrize("more", [(), RESUME, ("--plugin", "own", "parallel.stages=4", "--plan", "/plans/a.json")])
def test_arguments_follow_the_config(more, script):
    for done in (
        script("multinode_pdsh.sh", "a.yaml", *more),
        script("multinode_no_ssh.sh", "1", "worker-1", "29500", "hosts", "a.yaml", *more),
    ):
        expected = ["--module", "pipemlp", "train", "a.yaml", *more]
        assert (done.returncode, done.stderr) == (0, "") and done.stdout.splitlines()[-len(expected) :] == expected


@pytest.mark.parametrize(
    "argument", ["a b", "x;id", "$(id)", "`id`", "x=*", "~", "a=%h", "data.target='y'", "=id", "a\nb"]
)
def test_what_a_remote_shell_would_read_is_refused(argument, script):
    done = script("multinode_pdsh.sh", "a.yaml", argument)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == (
        f"{argument}: over ssh, arguments may hold letters, digits and ./=,:+-_ only; set it in a.yaml\n"
    )
    done = script("multinode_no_ssh.sh", "1", "worker-1", "29500", "hosts", "a.yaml", argument)
    assert done.stdout.endswith(f"train\na.yaml\n{argument}\n"), "no shell reads it there"


def test_what_the_launcher_exports_is_named(script, tmp_path):
    said = "the launcher exports what is in it to all hosts"
    (tmp_path / ".deepspeed_env").touch()
    assert script("multinode_pdsh.sh", "a.yaml").stderr == f"{tmp_path}/.deepspeed_env: {said}\n"
    (tmp_path / "home" / ".deepspeed_env").touch()
    home = f"{tmp_path}/home/.deepspeed_env: {said}\n"
    assert script("multinode_pdsh.sh", "a.yaml").stderr == f"{home}{tmp_path}/.deepspeed_env: {said}\n"
    assert script("multinode_pdsh.sh", "a.yaml", DS_ENV_FILE="other").stderr == ""


@pytest.mark.full
def test_where_the_launcher_looks_is_what_it_says():
    code = (
        "from deepspeed.launcher import runner as r; print(r.DEEPSPEED_ENVIRONMENT_NAME, r.DEEPSPEED_ENVIRONMENT_PATHS)"
    )
    environment = os.environ | {"HOME": "/home/me", "DS_ENV_FILE": "other"}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "other ['/home/me', '.']"


@pytest.mark.parametrize(
    ("name", "arguments"), [("multinode_pdsh.sh", ()), ("multinode_no_ssh.sh", ("1", "worker-1", "29500", "hosts"))]
)
def test_without_a_config_the_usage_is_shown(name, arguments, script):
    done = script(name, *arguments)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("usage: ") and done.stderr.endswith("CONFIG [argument ...]\n")
