"""Whether a run without a checkpoint once had one: then it must not begin anew over what it has left.

A run that was killed before its first checkpoint begins anew. One whose checkpoints were removed, or not copied along,
would lose its metrics and its model by that: it has `.saved`, which every checkpoint writes, or a trained model.
"""

import json
from contextlib import suppress
from pathlib import Path

from pipemlp.checkpoint.folder import FOLDER, MODEL_FOLDER, SAVED_FILE
from pipemlp.config.errors import ModelFileError
from pipemlp.training.run_directory import METRICS_FILE


def refuse_vanished(run_dir: Path) -> None:
    """Refuse to begin a run anew whose checkpoints are gone.

    Args:
        run_dir: of a run in whose `checkpoints/` there is none.

    Raises:
        ModelFileError: saying how far the run had come, and what to do.
    """
    evidence = _evidence(run_dir)
    if evidence is not None:
        raise ModelFileError(
            f"{run_dir}: the run had come to step {_last_step(run_dir / METRICS_FILE)}, and its checkpoints are gone: "
            f"{evidence}; put {FOLDER}/ back, or begin a new run in another folder, or delete this one. Nothing was "
            "changed here"
        )


def _evidence(run_dir: Path) -> str | None:
    """Why there must have been a checkpoint; None if there was none."""
    with suppress(OSError):
        saved = (run_dir / SAVED_FILE).read_text(encoding="utf-8", errors="replace").strip()[:40]
        return f"{saved} was saved last"
    return "there is a trained model" if (run_dir / MODEL_FOLDER).exists() else None


def _last_step(path: Path) -> int:
    """The highest step in a file of metrics, of which the last line may be half."""
    steps = [0]
    if path.is_file():
        for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
            with suppress(ValueError, KeyError, TypeError):
                steps.append(int(json.loads(line)["step"]))
    return max(steps)
