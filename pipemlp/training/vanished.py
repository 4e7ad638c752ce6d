"""Whether a run without a checkpoint once had one: then it must not begin anew over what it has left.

A run that was killed before its first checkpoint begins anew. One whose checkpoints were removed, or not copied along,
would lose its model and its metrics by that. What tells them apart:

    checkpoints/latest       is written after a checkpoint is there
    model/, finished         the last step is saved before
    preempted after step N   was saved
    no checkpoints/ at all   though a step after the second save is in metrics.jsonl: the first has been waited for
"""

import json
from contextlib import suppress
from pathlib import Path

from pipemlp.checkpoint.folder import FOLDER, MODEL_FOLDER, POINTER
from pipemlp.config.errors import ClusterError, ModelFileError
from pipemlp.config.root import RunConfig
from pipemlp.launching.outcome import was_preempted_at_start
from pipemlp.launching.status import RunStatus, read_status
from pipemlp.planning.budget import budget_of
from pipemlp.training.run_directory import METRICS_FILE


def refuse_vanished(run_dir: Path, saved: RunConfig, num_train_rows: int) -> None:
    """Refuse to begin a run anew whose checkpoints are gone.

    Args:
        run_dir: of a run in whose `checkpoints/` there is none.
        saved: the configuration that it has left.
        num_train_rows: of its data.

    Raises:
        ModelFileError: saying how far the run had come, and what to do.
    """
    status, step = None, _last_step(run_dir / METRICS_FILE)
    with suppress(ClusterError):  # a damaged status is no reason, nor a hindrance
        status = read_status(run_dir)
    evidence = _evidence(run_dir, status, step, 2 * budget_of(saved, num_train_rows).checkpoint_steps)
    if evidence is not None:
        step = max(step, 0 if status is None else status.step)
        raise ModelFileError(
            f"{run_dir}: the run had come to step {step}, and its checkpoints are gone: {evidence}; put {FOLDER}/ "
            "back, or begin a new run in another folder. Nothing was changed here"
        )


def _evidence(run_dir: Path, status: RunStatus | None, step: int, second_save: int) -> str | None:
    """Why there must have been a checkpoint; None if it may be that there was none."""
    pointer = run_dir / FOLDER / POINTER
    if pointer.is_file():
        return f"{FOLDER}/{POINTER} names {_name(pointer)}, which is not there"
    if status is not None and status.state == "finished":
        return "the run is finished, and there is none"
    if (run_dir / MODEL_FOLDER).exists():
        return "there is a trained model, and none"
    if status is not None and status.state == "preempted" and status.step and not was_preempted_at_start(status):
        return f"it was saved after step {status.step}, and there is none"
    if step > second_save and not (run_dir / FOLDER).exists():
        return f"there is no {FOLDER}/"
    return None


def _name(pointer: Path) -> str:
    try:
        return pointer.read_text(encoding="utf-8", errors="replace").strip()[:40]
    except OSError:
        return "one"


def _last_step(path: Path) -> int:
    """The highest step in a file of metrics, of which the last line may be half."""
    steps = [0]
    if path.is_file():
        for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
            with suppress(ValueError, KeyError, TypeError):
                steps.append(int(json.loads(line)["step"]))
    return max(steps)
