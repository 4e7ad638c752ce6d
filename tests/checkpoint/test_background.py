"""The thread that writes: what went wrong is heard, and the training goes first."""

import os
import sys

import pytest

from pipemlp.checkpoint.background import NICENESS, Background


def test_what_went_wrong_is_raised_once_where_somebody_waits():
    background, done = Background(), []
    background.start(lambda: done.append(1 / 0))
    with pytest.raises(ZeroDivisionError):
        background.wait()
    background.start(lambda: done.append(1))
    background.wait()
    assert done == [1]


@pytest.mark.skipif(sys.platform != "linux", reason="a thread has no priority of its own")
def test_only_the_thread_is_nice():
    before, seen = os.getpriority(os.PRIO_PROCESS, 0), []
    background = Background()
    background.start(lambda: seen.append(os.getpriority(os.PRIO_PROCESS, 0)))  # 0: of the thread that asks
    background.wait()
    assert seen == [max(NICENESS, before)]
    assert os.getpriority(os.PRIO_PROCESS, 0) == before
