"""What a run writes while it trains: metrics.jsonl, TensorBoard, status.json."""

import json
import math
from collections.abc import Mapping
from pathlib import Path

from torch.utils.tensorboard import SummaryWriter

from pipemlp.launching.status import write_status


class Records:
    """The record files of a run directory; rank 0 writes them."""

    def __init__(self, run_dir: Path) -> None:
        self._run_dir = run_dir
        self._metrics = (run_dir / "metrics.jsonl").open("a", encoding="utf-8")
        self._board = SummaryWriter(str(run_dir / "tensorboard"))

    def add(self, step: int, split: str, values: Mapping[str, float]) -> None:
        """One line of metrics.jsonl, one point per value in TensorBoard; NaN and infinity become null."""
        line = {key: value if math.isfinite(value) else None for key, value in values.items()}
        self._metrics.write(json.dumps({"step": step, "split": split, **line}) + "\n")
        self._metrics.flush()
        for name, value in values.items():
            self._board.add_scalar(f"{split}/{name}", value, step)

    def alive(self, step: int) -> None:
        """Renew status.json."""
        write_status(self._run_dir, "running", step=step)

    def finish(self, step: int, message: str) -> None:
        """The run is done."""
        self._board.close()
        self._metrics.close()
        write_status(self._run_dir, "finished", step=step, exit_code=0, message=message)
