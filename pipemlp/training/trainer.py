"""The training loop: batches through the pipeline, evaluations, early stopping, the best weights."""

import math
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass

import torch

from pipemlp.config.errors import NotFiniteError, RunFailedError
from pipemlp.engine.pipeline import MicroBatch, Pipeline, cpu_copy
from pipemlp.planning.learning_rate import learning_rate
from pipemlp.planning.metric_names import larger_is_better
from pipemlp.training.asynchronous_steps import AsynchronousSteps
from pipemlp.training.batches import BatchLoader
from pipemlp.training.checkpointer import Checkpointer
from pipemlp.training.doing import Doing
from pipemlp.training.evaluation import evaluate_split
from pipemlp.training.improvement import Improvement
from pipemlp.training.position import Followed, Position
from pipemlp.training.prediction_check import PredictionCheck
from pipemlp.training.preparation import Preparation
from pipemlp.training.refusals import Refusals
from pipemlp.training.stopping import Stopping
from pipemlp.training.timeline import TimelineRecorder
from pipemlp.training.watching import Watcher
from pipemlp.training.weight_check import check_weights, compares_replicas, remedy


@dataclass
class Outcome:
    """How the training ended.

    Args:
        step: optimizer steps done.
        best_step: the step whose weights are kept; the last one unless `checkpoint.best` is set.
        evaluations: the last loss and metrics of each split that was evaluated.
        samples_per_second: over the whole training, evaluations left out.
        stopped_by: the signal that stopped the training before its end, which can go on from a checkpoint.
    """

    step: int
    best_step: int
    evaluations: dict[str, dict[str, float]]
    samples_per_second: float
    stopped_by: int | None = None


@dataclass(frozen=True)
class Begin:
    """Where a training begins: at the start, or where a checkpoint was saved.

    Args:
        position: of the checkpoint.
        best: the best weights until then.
    """

    position: Position = Position()
    best: dict[int, dict[str, torch.Tensor]] | None = None


FROM_THE_START = Begin()


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
        checkpointer: Checkpointer | None = None,
        begin: Begin = FROM_THE_START,
        asked: Stopping | None = None,
        doing: Doing | None = None,
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
        self._checkpointer = checkpointer
        self._asked = asked
        self._doing = doing or Doing()
        self._refusals = Refusals(pipeline, loader, self._budget, self._config, watcher.note)
        self._is_stopped = False
        self._start = begin.position.step
        self._evaluations: dict[str, dict[str, float]] = {
            split: dict(values) for split, values in begin.position.evaluations.items()
        }
        self._best_tensors: dict[int, dict[str, torch.Tensor]] | None = None
        self._best_step = 0
        self._follow(begin)
        self._num_samples, self._training_seconds = begin.position.num_samples, begin.position.training_seconds

    def _follow(self, begin: Begin) -> None:
        """Go on with what is known of the metrics that are followed; of another metric than before, nothing is."""
        best, stopping, position = self._config.checkpoint.best, self._config.training.early_stopping, begin.position
        self._best = self._stopping = None
        self._has_stopped = False
        if best is not None:
            self._best = Improvement(larger_is_better(best))
            if position.best.metric == best:
                self._best.best, self._best.num_since = position.best.best, position.best.num_since
                self._best_tensors, self._best_step = begin.best, position.best_step
        if stopping is not None:
            self._stopping = Improvement(larger_is_better(stopping.metric), stopping.min_delta)
            if position.stopping.metric == stopping.metric:
                self._stopping.best, self._stopping.num_since = position.stopping.best, position.stopping.num_since
                # with more patience than before it goes on
                self._has_stopped = position.has_stopped and position.stopping.num_since >= stopping.patience

    def run(self) -> Outcome:
        """Train to the end of the budget, or until it no longer improves; then evaluate the test split.

        Raises:
            RunFailedError: when numbers are lost, or what was done before a stop could not be saved.
        """
        done = self._start
        self._watcher.begin(done)
        if not self._has_stopped:
            try:
                done = self._train_apart() if self._pipeline.is_asynchronous else self._train()
            except RunFailedError:
                if self._checkpointer is not None:
                    with suppress(RuntimeError):  # another rank is gone too; why this one ends is said already
                        self._checkpointer.finish()
                raise
        problem = self._save_last(done)
        speed = self._num_samples / max(self._training_seconds, 1e-9)
        self._pipeline.update.end()
        if self._is_stopped and self._asked is not None:
            if problem is not None:
                raise RunFailedError(f"told to stop, but what was done until step {done} is not saved: {problem}")
            return Outcome(done, self._best_step, self._evaluations, speed, self._asked.signum)
        check_weights(self._pipeline, f"step {done}", self._config)
        if self._best_tensors is not None:
            self._pipeline.set_layer_tensors(self._best_tensors)
        else:
            self._best_step = done
            if self._best is not None:
                self._watcher.note(f"{self._config.checkpoint.best} was never a number: the last weights are kept")
        if self._loader.num_rows("test") > 0:
            self._evaluate_split("test", self._best_step)
        return Outcome(done, self._best_step, self._evaluations, speed)

    def _stops_before(self, step: int) -> bool:
        """Whether somebody asked for a stop, and all ranks stop here."""
        self._is_stopped = self._asked is not None and self._asked.stops_before(step)
        return self._is_stopped

    def _train(self) -> int:
        """All ranks step by step; how many steps it were."""
        budget = self._budget
        steps = range(self._start, budget.num_steps)
        batches = self._loader.training_batches(divmod(step, budget.steps_per_epoch) for step in steps)
        done = self._start
        for step, micro_batches in zip(steps, batches, strict=True):
            if self._stops_before(step):
                break
            self._step(step, micro_batches)
            done = step + 1
            if budget.evaluates_after(step) or self._saves(step) or self._compares_after(done):
                self._refusals.look(settle=True)
            if budget.evaluates_after(step) and self._loader.num_rows("validation"):
                self._warn()
                with self._pipeline.update.judged():
                    stops = self._evaluate(done)
                if stops:
                    self._has_stopped = True
                    break
            if self._saves(step):
                self._save(done)
            elif self._compares_after(done):
                if self._check is not None:
                    self._check.paused()
                check_weights(self._pipeline, f"step {done}", self._config)
        self._refusals.look(settle=True)
        return done

    def _compares_after(self, done: int) -> bool:
        """Whether replicas are compared though nothing is saved."""
        every = self._config.fault.compare_replicas_every_steps
        return every > 0 and done % every == 0 and compares_replicas(self._pipeline)

    def _train_apart(self) -> int:
        """Each replica at its own pace from one evaluation to the next; how many steps it were."""
        budget, done = self._budget, self._start
        steps = AsynchronousSteps(
            self._pipeline,
            self._loader,
            budget,
            self._learning_rate,
            self._config.logging.every_steps,
            self._show_apart,
            self._doing,
            self._refusals,
            lambda: self._asked is not None and self._asked.is_asked,
        )
        pauses = [step for step in range(done, budget.num_steps) if budget.evaluates_after(step) or self._saves(step)]
        for step in pauses:
            if self._stops_before(done):
                break
            started, before = time.perf_counter(), done
            done, stops = steps.run(done, step + 1), False
            with self._pipeline.update.judged():
                self._training_seconds += time.perf_counter() - started
                self._num_samples += sum(map(self._rows_of, range(before, done)))
                self._warn()
                if done <= step:  # somebody asked for a stop, whether this rank has heard of it or not
                    self._is_stopped = True
                    break
                if budget.evaluates_after(step):
                    stops = self._has_stopped = self._evaluate(done)
                if self._saves(step) and not stops:
                    self._save(done)
            if stops:
                break
        return done

    def _warn(self) -> None:
        for text in self._pipeline.update.warnings():
            self._watcher.note(text)

    def _saves(self, step: int) -> bool:
        return self._checkpointer is not None and self._budget.saves_after(step)

    def _save(self, done: int) -> None:
        """Save; the evaluation of the step, if there is one, comes before, so that a resumed run has it."""
        if self._checkpointer is None:
            return
        best, stopping = (
            Followed() if own is None else Followed(metric, own.best, own.num_since)
            for own, metric in ((self._best, self._config.checkpoint.best), (self._stopping, self._stopping_metric))
        )
        position = Position(
            step=done,
            best_step=self._best_step,
            best=best,
            stopping=stopping,
            evaluations={split: dict(values) for split, values in self._evaluations.items()},  # ours go on changing
            num_samples=self._num_samples,
            training_seconds=self._training_seconds,
            has_stopped=self._has_stopped,
        )
        if self._check is not None:
            self._check.paused()
        self._said(self._checkpointer.save(position, self._best_tensors))

    def _save_last(self, done: int) -> str | None:
        """Have all that was done saved, even if it failed before; returns why it is not, if so."""
        if self._checkpointer is None:
            return None
        problem = self._checkpointer.finish()
        self._said(problem)
        if self._checkpointer.last_saved < done:
            self._save(done)
            problem = self._checkpointer.finish()
            self._said(problem)
        return problem if self._checkpointer.last_saved < done else None

    def _said(self, problem: str | None) -> None:
        if problem is not None:
            failed = self._checkpointer is not None and self._checkpointer.has_failed
            if failed and self._config.fault.unsaved == "stop":
                raise RunFailedError(problem)
            self._watcher.note(f"warning: {problem}; the training goes on")

    @property
    def _stopping_metric(self) -> str | None:
        stopping = self._config.training.early_stopping
        return None if stopping is None else stopping.metric

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
        self._doing(f"step {done}")
        self._timeline.before(done)
        if self._check is not None:
            self._check.before(done)
        self._pipeline.train_batch(micro_batches, step=step, learning_rate=rate)
        self._timeline.after(done)
        self._num_samples += self._rows_of(step)
        if self._refusals.look(settle=record) and self._check is not None:
            self._check.paused()
        if record:
            value = float(self._pipeline.batch_loss())
        self._training_seconds += time.perf_counter() - started
        if record:
            self._watcher.step(done, value, rate, self._num_samples / self._training_seconds)
        if self._check is not None:
            self._check.after(done)

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
        self._doing(f"evaluation of the {split} split after step {done}")
        names = self._config.evaluation.metrics
        values = evaluate_split(self._pipeline, self._loader, self._data, split, names, self._device)
        if not math.isfinite(values["loss"]):
            raise NotFiniteError(f"the {split} loss is {values['loss']} after step {done}; {remedy(self._config)}")
        self._evaluations[split] = values
        self._watcher.evaluation(split, done, values)
        return values
