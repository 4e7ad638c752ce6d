"""Saves a run while it trains: the training waits for a copy in memory; a thread writes it, all ranks agree."""

import shutil
import time
from collections.abc import Mapping
from datetime import timedelta
from pathlib import Path
from typing import TypeVar

import torch.distributed as dist
from torch import Tensor

from pipemlp.checkpoint.background import Background
from pipemlp.checkpoint.commit import Tell, Writing, commit, prune
from pipemlp.checkpoint.contents import TRAINING_FILE, best_file, written
from pipemlp.checkpoint.folder import FOLDER
from pipemlp.checkpoint.manifest import FileEntry, Manifest
from pipemlp.checkpoint.pipeline_state import has_own_copies, tensors_by_file
from pipemlp.checkpoint.sealed_files import flush
from pipemlp.checkpoint.snapshot import Snapshot
from pipemlp.checkpoint.state_files import layer_state_file
from pipemlp.checkpoint.tensor_files import save_tensors
from pipemlp.config.errors import ModelFileError
from pipemlp.engine.pipeline import Pipeline
from pipemlp.engine.updates.making import FOR_EVER_SECONDS
from pipemlp.training.model_index import manifest_of, save_index_of
from pipemlp.training.position import Position
from pipemlp.training.preparation import Preparation
from pipemlp.training.run_directory import CONFIG_FILE, METRICS_FILE, PLAN_FILE
from pipemlp.training.weight_check import check_weights

Value = TypeVar("Value")
LayerTensors = dict[int, dict[str, Tensor]]


class AllRanks:
    """All ranks, in a process group of their own: the thread's messages must not meet those of the training.

    Nobody gives up waiting: a slow disk is no lost rank, and a rank that is lost is found by the heartbeats.
    """

    def __init__(self) -> None:
        self._group = dist.new_group(backend="gloo", timeout=timedelta(seconds=FOR_EVER_SECONDS))

    @property
    def rank(self) -> int:
        """This one."""
        return dist.get_rank()

    def everyone(self, value: Value) -> list[Value]:
        """What every rank gave, by rank."""
        found: list[Value] = [value] * dist.get_world_size()
        dist.all_gather_object(found, value, group=self._group)
        return found


class Checkpointer:
    """Saves checkpoints of a run; every rank has one, and calls it at the same steps.

    Args:
        run_dir: of the run, seen by all ranks.
        preparation: of the run.
        pipeline: this rank's.
        doing: told what is about to be done.
    """

    def __init__(
        self, run_dir: Path, preparation: Preparation, pipeline: Pipeline, doing: Tell = lambda text: None
    ) -> None:
        self._run_dir, self._preparation, self._pipeline, self._doing = run_dir, preparation, pipeline, doing
        self.ranks = AllRanks()
        self._background, self._snapshot = Background(), Snapshot()
        self.stalls: list[float] = []
        """Seconds that the training waited for each save."""
        self.last_saved = 0
        """The step of the newest one that is known to be whole; `finish` learns of it."""
        self.num_saved = 0
        """That are known to be whole."""
        self.has_failed = False
        """Whether the last one that was waited for could not be written, on all ranks."""
        self._begun: int | None = None
        self._left: str | None = None

    def save(self, position: Position, best: LayerTensors | None) -> str | None:
        """Begin to save weights that may be kept; returns what was wrong with the save before, if anything was.

        Args:
            position: of the training.
            best: weights that are the best so far, which nobody changes any more.

        Raises:
            RunFailedError: on all ranks, if the weights are not finite, or replicas have come apart.
        """
        started = time.perf_counter()
        problem = self.finish()
        check_weights(self._pipeline, f"step {position.step}", self._preparation.config)
        place = self._pipeline.place
        copies = self._snapshot.take(tensors_by_file(self._pipeline))
        if best is not None and place.replica == 0:
            copies |= {best_file(layer): tensors for layer, tensors in best.items()}
        self._background.start(lambda: self._write_beside(position, copies))
        self._begun = position.step
        self.stalls.append(time.perf_counter() - started)
        return problem

    def finish(self) -> str | None:
        """Wait until what was begun is saved; returns why it is not, or what could not be removed.

        Raises:
            RuntimeError: if a rank is gone.
        """
        begun, self._begun = self._begun, None
        try:
            self._background.wait()
        except ModelFileError as error:
            self.has_failed = True
            return f"{error}; the checkpoints before are untouched"
        self.has_failed = False
        if begun is not None:
            self.last_saved, self.num_saved = begun, self.num_saved + 1
        left, self._left = self._left, None
        return left

    def _write_beside(self, position: Position, copies: dict[str, dict[str, Tensor]]) -> None:
        try:
            self._write(position, copies)
        finally:
            self._doing("")

    def _write(self, position: Position, copies: dict[str, dict[str, Tensor]]) -> None:
        folder, config = self._run_dir / FOLDER, self._preparation.config
        num_bytes = sum(tensor.nbytes for tensors in copies.values() for tensor in tensors.values())

        def write(directory: Path) -> list[str]:
            for name, tensors in copies.items():
                self._doing(f"checkpoint {position.step}: writing {name}")
                save_tensors(directory / name, tensors)
            return [*copies, *(self._small_files(directory, position) if self.ranks.rank == 0 else ())]

        def describe(files: Mapping[str, FileEntry]) -> Manifest:
            flush(self._run_dir / METRICS_FILE)  # who goes on from here finds the lines before
            return manifest_of(self._preparation, position.step, files, is_apart=has_own_copies(self._pipeline))

        commit(folder, position.step, Writing(num_bytes, write), describe, self.ranks, self._doing)
        if self.ranks.rank == 0:
            best = position.best_step if config.checkpoint.best is not None else None
            try:
                prune(folder, position.step, config.checkpoint.keep, best, self._doing)
            except OSError as error:
                self._left = f"an old checkpoint could not be removed, the next start tries again: {error}"

    def _small_files(self, directory: Path, position: Position) -> list[str]:
        index = save_index_of(directory, self._preparation, position.step, lambda index: layer_state_file(index, 0))
        for name in (CONFIG_FILE, PLAN_FILE):
            shutil.copyfile(self._run_dir / name, directory / name)
        training = written(position.to_text(), directory / TRAINING_FILE)
        return [training, CONFIG_FILE, PLAN_FILE, *index]
