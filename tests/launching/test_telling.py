"""A full disk that takes the output changes no exit code."""

import subprocess
import sys

import pytest


@pytest.mark.parametrize("stream", ["stdout", "stderr"])
def test_a_full_disk_that_takes_the_output_changes_no_exit_code(stream):
    code = (
        f"import sys; from pipemlp.launching.telling import tell; sys.{stream} = open('/dev/full', 'w');"
        f"tell('go on with: pipemlp resume a', as_error={stream == 'stderr'}); sys.exit(6)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert (done.returncode, done.stdout, done.stderr) == (6, "", "")


def test_a_line_is_shown():
    code = "from pipemlp.launching.telling import tell; tell('one'); tell('two', as_error=True)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert (done.stdout, done.stderr) == ("one\n", "two\n")
