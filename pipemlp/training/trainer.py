"""The training loop: batches through the pipeline, evaluations, early stopping, the best weights."""

import math
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol

import torch

from pipemlp.config.errors import RunFailedError
from pipemlp.engine.pipeline import MicroBatch, Pipeline, all_finite, cpu_copy
from pipemlp.planning.learning_rate import learning_rate
from pipemlp.planning.metric_names import larger_is_better
from pipemlp.training.asynchronous_steps import AsynchronousSteps
from pipemlp.training.batches import BatchLoader
from pipemlp.training.evaluation import evaluate_split
from pipemlp.training.improvement import Improvement
from pipemlp.training.prediction_check import PredictionCheck
from pipemlp.training.preparation import Preparation
from pipemlp.training.timeline import TimelineRecorder


class Watcher(Protocol):
    """Whoever wants to know how the run goes; rank 0 shows and writes it, the others do nothing."""

    def step(self, step: int, loss: float, learning_rate: float, samples_per_second: float) -> None:
        """An optimizer step is done whose loss is to be known."""

    def evaluation(self, split: str, step: int, values: dict[str, float]) -> None:
        """A split was evaluated after `step` steps."""

    def note(self, text: str) -> None:
        """Something worth a line."""


@dataclass
class Outcome:
    """How the training ended.

    Args:
        step: optimizer steps done.
        best_step: the step whose weights are kept; the last one unless `checkpoint.best` is set.
        evaluations: the last loss and metrics of each split that was evaluated.
        samples_per_second: over the whole training, evaluations left out.
    """

    step: int
    best_step: int
    evaluations: dict[str, dict[str, float]]
    samples_per_second: float


class Trainer:
    """Runs one preparation on this rank's pipeline; every rank runs the same one."""

    def __init__(
        self,
        preparation: Preparation,
        pipeline: Pipeline,
        loader: BatchLoader,
        device: torch.device,
        watcher: Watcher,
        timeline: TimelineRecorder,
        check: PredictionCheck | None = None,
    ) -> None:
        self._config = preparation.config
        self._data = preparation.data
        self._budget = preparation.budget
        self._pipeline = pipeline
        self._loader = loader
        self._device = device
        self._watcher = watcher
        self._timeline = timeline
        self._check = check
        self._evaluations: dict[str, dict[str, float]] = {}
        best = self._config.checkpoint.best
        self._best = Improvement(larger_is_better(best)) if best is not None else None
        self._best_tensors: dict[int, dict[str, torch.Tensor]] | None = None
        self._best_step = 0
        stopping = self._config.training.early_stopping
        self._stopping = (
            Improvement(larger_is_better(stopping.metric), stopping.min_delta) if stopping is not None else None
        )
        self._num_samples = 0
        self._training_seconds = 0.0

    def run(self) -> Outcome:
        """Train to the end of the budget, or until it no longer improves; then evaluate the test split.

        Raises:
            RunFailedError: when the loss is no longer a number.
        """
        done = self._train_apart() if self._pipeline.is_asynchronous else self._train()
        self._pipeline.update.end()
        if not all_finite(self._pipeline.layer_tensors(), self._device):
            raise RunFailedError(f"the weights are not finite after step {done}; {self._remedy()}")
        if self._best_tensors is not None:
            self._pipeline.set_layer_tensors(self._best_tensors)
        else:
            self._best_step = done
            if self._best is not None:
                self._watcher.note(f"{self._config.checkpoint.best} was never a number: the last weights are kept")
        if self._loader.num_rows("test") > 0:
            self._evaluate_split("test", self._best_step)
        return Outcome(done, self._best_step, self._evaluations, self._num_samples / max(self._training_seconds, 1e-9))

    def _train(self) -> int:
        """All ranks step by step; how many steps it were."""
        budget = self._budget
        steps = range(budget.num_steps)
        batches = self._loader.training_batches(divmod(step, budget.steps_per_epoch) for step in steps)
        done = 0
        for step, micro_batches in zip(steps, batches, strict=True):
            self._step(step, micro_batches)
            done = step + 1
            if budget.evaluates_after(step) and self._loader.num_rows("validation"):
                with self._pipeline.update.judged():
                    stops = self._evaluate(done)
                if stops:
                    break
        return done

    def _train_apart(self) -> int:
        """Each replica at its own pace from one evaluation to the next; how many steps it were."""
        budget, done = self._budget, 0
        steps = AsynchronousSteps(
            self._pipeline,
            self._loader,
            budget,
            self._learning_rate,
            self._config.logging.every_steps,
            self._show_apart,
        )
        for step in filter(budget.evaluates_after, range(budget.num_steps)):
            started, before = time.perf_counter(), done
            steps.run(done, step + 1)
            with self._pipeline.update.judged():
                done = step + 1
                self._training_seconds += time.perf_counter() - started
                self._num_samples += sum(map(self._rows_of, range(before, done)))
                for text in self._pipeline.update.warnings():
                    self._watcher.note(text)
                if self._evaluate(done):
                    break
        return done

    def _show_apart(self, step: int, loss: float, slices_per_second: float) -> None:
        rows = slices_per_second * self._loader.batch_size / self._pipeline.plan.num_replicas
        self._watcher.step(step, loss, self._learning_rate(step - 1), rows)

    def _learning_rate(self, step: int) -> float:
        return learning_rate(self._config.lr_schedule, self._config.optimizer.lr, step, self._budget.num_steps)

    def _step(self, step: int, micro_batches: Iterator[MicroBatch]) -> None:
        rate = self._learning_rate(step)
        started = time.perf_counter()
        done = step + 1
        record = done % self._config.logging.every_steps == 0 or done == 1 or done == self._budget.num_steps
        self._timeline.before(done)
        if self._check is not None:
            self._check.before(done)
        self._pipeline.train_batch(micro_batches, step=step, learning_rate=rate)
        self._timeline.after(done)
        self._num_samples += self._rows_of(step)
        if record:
            value = float(self._pipeline.batch_loss())
            if not math.isfinite(value):
                raise RunFailedError(f"the training loss is {value} at step {done}; {self._remedy()}")
        self._training_seconds += time.perf_counter() - started
        if record:
            self._watcher.step(done, value, rate, self._num_samples / self._training_seconds)
        if self._check is not None:
            self._check.after(done)

    def _remedy(self) -> str:
        return f"lower optimizer.lr ({self._config.optimizer.lr:g}), or set training.clip_norm, such as 1.0"

    def _rows_of(self, step: int) -> int:
        start = step % self._budget.steps_per_epoch * self._loader.batch_size
        return min(self._loader.batch_size, self._loader.num_rows("train") - start)

    def _evaluate(self, done: int) -> bool:
        """Evaluate the validation split, if there is one; whether to stop early."""
        if self._loader.num_rows("validation") == 0:
            return False
        values = self._evaluate_split("validation", done)
        if self._best is not None and self._best.update(values[str(self._config.checkpoint.best)]):
            self._best_tensors = cpu_copy(self._pipeline.layer_tensors())
            self._best_step = done
        stopping = self._config.training.early_stopping
        if stopping is None or self._stopping is None or self._stopping.update(values[stopping.metric]):
            return False
        if self._stopping.num_since < stopping.patience:
            return False
        best = "was never a number" if self._stopping.best is None else f"did not improve on {self._stopping.best:.4g}"
        self._watcher.note(
            f"stopped early after step {done}: {stopping.metric} {best} in {stopping.patience} evaluations"
        )
        return True

    def _evaluate_split(self, split: str, done: int) -> dict[str, float]:
        if self._check is not None:
            self._check.paused()
        names = self._config.evaluation.metrics
        values = evaluate_split(self._pipeline, self._loader, self._data, split, names, self._device)
        if not math.isfinite(values["loss"]):
            raise RunFailedError(f"the {split} loss is {values['loss']} after step {done}; {self._remedy()}")
        self._evaluations[split] = values
        self._watcher.evaluation(split, done, values)
        return values
