"""What a run writes while it trains: metrics.jsonl, TensorBoard, status.json."""

import json
import math
import threading
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

from torch.utils.tensorboard import SummaryWriter

from pipemlp.launching.status import State, write_status
from pipemlp.training.run_directory import METRICS_FILE


class Records:
    """The record files of a run directory; rank 0 writes them.

    Args:
        run_dir: of the run.
        heartbeat_seconds: between two renewals of status.json.
        step: after which the run goes on; what TensorBoard has of later ones was lost, and is hidden.
    """

    def __init__(self, run_dir: Path, heartbeat_seconds: float, step: int = 0) -> None:
        self._run_dir = run_dir
        self._metrics = (run_dir / METRICS_FILE).open("a", encoding="utf-8")
        self._board = SummaryWriter(str(run_dir / "tensorboard"), purge_step=step + 1)
        self._step = step
        self._ended = threading.Event()
        self._heart = threading.Thread(target=self._beat, args=(heartbeat_seconds,), name="heartbeat", daemon=True)
        self._heart.start()

    def add(self, step: int, split: str, values: Mapping[str, float]) -> None:
        """One line of metrics.jsonl, one point per value in TensorBoard; NaN and infinity become null."""
        line = {key: value if math.isfinite(value) else None for key, value in values.items()}
        self._metrics.write(json.dumps({"step": step, "split": split, **line}) + "\n")
        self._metrics.flush()
        for name, value in values.items():
            self._board.add_scalar(f"{split}/{name}", value, step)

    def alive(self, step: int) -> None:
        """Renew status.json, which goes on by itself as long as this process lives."""
        self._step = step
        write_status(self._run_dir, "running", step=step)

    def _beat(self, seconds: float) -> None:
        while not self._ended.wait(seconds):
            with suppress(OSError):
                write_status(self._run_dir, "running", step=self._step)

    def end(self, state: State, step: int, message: str, exit_code: int) -> None:
        """The run is done, or stopped."""
        self._ended.set()
        self._heart.join()
        self._board.close()
        self._metrics.close()
        write_status(self._run_dir, state, step=step, exit_code=exit_code, message=message)
