"""Runs that are struck: start one, wait for its end and that of all its processes, go on with it, compare.

The plug-in that strikes from inside, and the means to find every process of a command, are those of the tests.
"""

import re
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path

TESTS = Path(__file__).resolve().parents[1] / "tests"
sys.path.append(str(TESTS))

from commands import PIPEMLP, Started, metrics_of, model_files, succeed  # noqa: E402

from pipemlp.config.errors import UserError  # noqa: E402
from pipemlp.training.run import open_run  # noqa: E402

TIMEOUT_SECONDS = 10
"""`fault.timeout_seconds` of all runs here."""
MARGIN_SECONDS = 15.0
"""For the launcher's ten seconds of grace, and for looking at all processes on a busy machine."""
LONGEST_SECONDS = 600.0
"""Of a run that nobody ends."""
RUN_FILE = "run.yaml"
PLUGIN = ("--plugin", "strike")
CONFIG = """\
data: {{source: {{name: teacher, rows: 96, inputs: 4}}, split: {{validation: 0.2, test: 0.2}}}}
model: {{hidden: [8, 8, 8], dropout: 0.1}}
loss: mse
training: {{steps: {steps}, global_batch_size: 8, early_stopping: {{metric: loss, patience: 1000000}}}}
optimizer: {{name: adamw, lr: 1e-2}}
parallel: {{stages: {stages}, micro_batches: 2}}
evaluation: {{every_steps: {evaluate}}}
checkpoint: {{every_steps: {save}, best: loss}}
fault: {{timeout_seconds: {timeout}}}
logging: {{every_steps: {log}}}
"""


def write_config(folder: Path, stages: int, steps: int, evaluate: int, save: int, log: int) -> None:
    """`run.yaml`: a tiny model, so that starts are what takes time."""
    text = CONFIG.format(stages=stages, steps=steps, evaluate=evaluate, save=save, log=log, timeout=TIMEOUT_SECONDS)
    (folder / RUN_FILE).write_text(text, encoding="utf-8")


def variables(strike: str = "", marker: Path | None = None) -> dict[str, str]:
    """Of the environment of a run that is struck, or left alone."""
    own = {"PYTHONPATH": str(TESTS / "faults")}
    if strike:
        own |= {"STRIKE": strike, "STRIKE_ONCE": str(marker)}
    return own


def start(folder: Path, name: str, strike: str = "", *arguments: str) -> Started:
    """Begin a run; where it is struck, the marker is `struck(folder, name)`."""
    command = [*PIPEMLP, "train", RUN_FILE, f"run.dir={name}", *PLUGIN, *arguments]
    return Started(command, folder, **variables(strike, struck(folder, name)))


def go_on(folder: Path, name: str, strike: str = "", *arguments: str) -> Started:
    """Begin to go on with a run."""
    command = [*PIPEMLP, "resume", name, *PLUGIN, *arguments]
    return Started(command, folder, **variables(strike, struck(folder, name)))


def undisturbed(folder: Path, name: str = "whole") -> None:
    """Run to the end."""
    succeed([*PIPEMLP, "train", RUN_FILE, f"run.dir={name}", *PLUGIN], folder, LONGEST_SECONDS, **variables())


def resumed(folder: Path, name: str, *arguments: str) -> str:
    """Go on to the end; what was printed.

    Raises:
        AssertionError: with what was printed, if it ended as failed.
    """
    return succeed([*PIPEMLP, "resume", name, *PLUGIN, *arguments], folder, LONGEST_SECONDS, **variables()).printed


def resumed_from(printed: str) -> int:
    """The step after which a run went on; 0 where it began anew."""
    found = re.search(r"resumed after step (\d+)", printed)
    return int(found[1]) if found else 0


def struck(folder: Path, name: str) -> Path:
    """The file that is there once a run was struck."""
    return folder / f"{name}.struck"


def await_marker(started: Started, marker: Path) -> bool:
    """Whether the run was struck before it ended."""
    waited_until(lambda: marker.exists() or started.process.poll() is not None, LONGEST_SECONDS)
    return marker.exists()


def waited_until(condition: Callable[[], bool], seconds: float, every: float = 0.02) -> bool:
    """Whether the condition came true in time."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(every)
    return True


def ends(started: Started, seconds: float) -> bool:
    """Whether the command, and every process below it, ends in time."""
    return waited_until(lambda: started.process.poll() is not None and not started.living(), seconds, 0.1)


def state_of(run_dir: Path) -> str:
    """What a reader of status.json should believe."""
    try:
        return open_run(run_dir).status.state
    except UserError as error:
        return str(error)


def difference(folder: Path, name: str, whole: str = "whole") -> str | None:
    """What a run has that the undisturbed one has not."""
    if state_of(folder / name) != "finished":
        return f"its state is {state_of(folder / name)}"
    if metrics_of(folder / name) != metrics_of(folder / whole):
        return "metrics.jsonl differs from that of the undisturbed run"
    if model_files(folder / name) != model_files(folder / whole):
        return "the model differs from that of the undisturbed run"
    return None


def kill(started: Started, role: str) -> str:
    """SIGKILL a process of the command, the command itself where that one is not there yet; who it was."""
    try:
        process = started.find(role)
    except StopIteration:
        role, process = "started", started.find("started")
    process.send_signal(signal.SIGKILL)
    return role
