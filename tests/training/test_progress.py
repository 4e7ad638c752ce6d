"""What is left of a run is told by what its steps take now, not by steps that were done before it went on."""

import io

import pytest

from pipemlp.training import progress
from pipemlp.training.progress import ProgressDisplay


class Clock:
    now = 1000.0

    def monotonic(self):
        return self.now


@pytest.fixture
def clock(monkeypatch):
    clock = Clock()
    monkeypatch.setattr(progress, "time", clock)
    return clock


def line_after(display, file, step):
    display.step(step, 0.5, 0.1, 100.0)
    return file.getvalue().splitlines()[-1]


@pytest.mark.parametrize("begun_after", [0, 900])
def test_the_first_line_tells_what_is_left(begun_after, clock):
    file = io.StringIO()
    display = ProgressDisplay(file, 1000, 100)
    clock.now += 60.0  # until the processes have met, and a checkpoint is loaded
    display.begin(begun_after)
    clock.now += 2.0
    assert line_after(display, file, begun_after + 1).endswith(f"ETA {'0:33:18' if begun_after == 0 else '0:03:18'}")
    clock.now += 38.0
    assert line_after(display, file, begun_after + 20).endswith(f"ETA {'0:32:40' if begun_after == 0 else '0:02:40'}")


class Terminal(io.StringIO):
    def isatty(self):
        return True


def test_so_does_the_bar(clock, monkeypatch):
    display = ProgressDisplay(Terminal(), 1000, 100)
    bar, task = display._bar, display._bar.tasks[0]
    bar.get_time = task._get_time = clock.monotonic
    display.begin(900)
    for step in (910, 920):
        clock.now += 20.0
        display.step(step, 0.5, 0.1, 100.0)
    assert task.completed == 920 and task.speed == pytest.approx(0.5) and task.time_remaining == 160
    display.close()
