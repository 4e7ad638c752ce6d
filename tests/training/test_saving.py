"""What a training does with its checkpoints: what it follows, what it says when they fail, what it waits for."""

from contextlib import nullcontext
from types import SimpleNamespace

import pytest
import torch

from pipemlp.config.errors import ModelFileError, RunFailedError
from pipemlp.config.root import RunConfig
from pipemlp.training import checkpointer as checkpointing
from pipemlp.training import trainer as training
from pipemlp.training.checkpointer import Checkpointer
from pipemlp.training.doing import Doing
from pipemlp.training.position import Followed, Position, position_from_text
from pipemlp.training.trainer import Begin, Trainer

FULL = ModelFileError("checkpoint of step 8: rank 0 could not write it: No space left on device")


@pytest.fixture(autouse=True)
def _weights_are_in_order(monkeypatch):
    for module in (checkpointing, training):
        monkeypatch.setattr(module, "check_weights", lambda *arguments: None)


@pytest.fixture
def checkpointer(tmp_path, monkeypatch):
    """A checkpointer without tensors and ranks; `commit` and `prune` do nothing until a test says otherwise."""
    groups = []
    monkeypatch.setattr(checkpointing.dist, "new_group", lambda **options: groups.append(options))
    monkeypatch.setattr(checkpointing.dist, "get_rank", lambda: 0)
    monkeypatch.setattr(checkpointing, "tensors_by_file", lambda pipeline: {})
    for name in ("commit", "prune"):
        monkeypatch.setattr(checkpointing, name, lambda *arguments: None)
    preparation = SimpleNamespace(config=config_of())
    made = Checkpointer(tmp_path, preparation, SimpleNamespace(place=SimpleNamespace(replica=0)))
    made.groups = groups
    return made


def raising(error):
    def act(*arguments):
        raise error

    return act


def config_of(**training) -> RunConfig:
    sections = {"checkpoint": {"best": training.pop("best", None)}, "fault": training.pop("fault", {})}
    return RunConfig.model_validate(
        {"data": {"source": "digits"}, "model": {"hidden": [8]}, "training": training, **sections}
    )


def test_saved_is_what_is_known_to_be_whole(checkpointer, monkeypatch):
    assert checkpointer.save(Position(step=4), None) is None
    assert checkpointer.finish() is None and checkpointer.last_saved == 4
    monkeypatch.setattr(checkpointing, "commit", raising(FULL))
    checkpointer.save(Position(step=8), None)
    assert checkpointer.finish() == f"{FULL}; the checkpoints before are untouched"
    assert checkpointer.last_saved == 4
    assert checkpointer.finish() is None and checkpointer.last_saved == 4


def test_what_cannot_be_removed_is_said_and_no_more(checkpointer, monkeypatch):
    monkeypatch.setattr(checkpointing, "prune", raising(PermissionError(13, "Permission denied", "step-2")))
    checkpointer.save(Position(step=4), None)
    assert "could not be removed" in checkpointer.finish()
    assert checkpointer.last_saved == 4 and checkpointer.finish() is None


def test_a_slow_disk_is_no_lost_rank(checkpointer):
    (options,) = checkpointer.groups
    assert options["timeout"].days > 365


class Notes:
    """Hears what is said, and saves nothing."""

    def __init__(self, problem=None):
        self.notes, self.saved, self.finished, self.last_saved, self.problem = [], [], 0, 0, problem
        self.has_failed = problem is not None

    def begin(self, step):
        self.begun = step

    def note(self, text):
        self.notes.append(text)

    def save(self, position, best):
        self.saved.append(position)

    def finish(self):
        self.finished += 1
        if self.saved and self.problem is None:
            self.last_saved = self.saved[-1].step
        return self.problem if self.saved else None


def trainer_of(config, fake=None, begin=None, asked=None) -> Trainer:
    pipeline = SimpleNamespace(is_asynchronous=False, update=SimpleNamespace(end=lambda: None))
    preparation = SimpleNamespace(config=config, data=None, budget=None)
    return Trainer(
        preparation,
        pipeline,
        None,
        torch.device("cpu"),
        fake or Notes(),
        None,
        checkpointer=fake,
        begin=begin or Begin(),
        asked=asked,
    )


def stopped_at(trainer, step):
    def train():
        trainer._is_stopped = True
        return step

    trainer._train = train
    return trainer


ASKED = SimpleNamespace(signum=15)


def test_a_stop_is_one_only_if_it_is_saved():
    fake = Notes()
    outcome = stopped_at(trainer_of(config_of(), fake, asked=ASKED), 7).run()
    assert (outcome.stopped_by, fake.last_saved) == (15, 7)


def test_a_stop_that_cannot_save_is_a_failure():
    """Who reads `saved`, and exit code 75, would lose it all."""
    fake = Notes(str(FULL))
    with pytest.raises(RunFailedError, match="until step 7 is not saved: .*No space left") as caught:
        stopped_at(trainer_of(config_of(), fake, asked=ASKED), 7).run()
    assert caught.value.exit_code == 6
    assert fake.notes == [f"warning: {FULL}; the training goes on"]


def test_replicas_apart_that_were_stopped_early_know_it_without_having_heard(monkeypatch):
    """The signal may be known to one rank only; that fewer steps were done than there are is known to all."""
    asked = SimpleNamespace(signum=15, is_asked=False, stops_before=lambda step: False)
    trainer = trainer_of(config_of(), Notes(), asked=asked)
    trainer._budget = SimpleNamespace(
        num_steps=10, evaluates_after=lambda step: step == 9, saves_after=lambda step: False
    )
    trainer._pipeline.update.judged, trainer._pipeline.update.warnings = nullcontext, list
    trainer._rows_of = lambda step: 8
    stretches = []
    monkeypatch.setattr(
        training, "AsynchronousSteps", lambda *own: SimpleNamespace(run=lambda *own: stretches.append(own) or 4)
    )
    assert (trainer._train_apart(), trainer._is_stopped, trainer._num_samples) == (4, True, 32)
    assert stretches == [(0, 10)]


def test_what_was_begun_to_be_saved_is_there_before_a_run_fails():
    fake = Notes()
    trainer = trainer_of(config_of(), fake)
    trainer._train = raising(RunFailedError("the training loss is nan"))
    with pytest.raises(RunFailedError, match="is nan"):
        trainer.run()
    assert fake.finished == 1


def test_what_is_saved_changes_no_more():
    fake = Notes()
    trainer = trainer_of(config_of(), fake)
    trainer._evaluations["validation"] = {"loss": 1.0}
    trainer._save(5)
    trainer._evaluations["validation"]["loss"] = 0.5
    trainer._evaluations["test"] = {"loss": 2.0}
    assert fake.saved[0].evaluations == {"validation": {"loss": 1.0}}


STOPPING = {"metric": "loss", "patience": 3}
SAVED = Position(
    step=9,
    best_step=4,
    best=Followed("accuracy", 0.9, 2),
    stopping=Followed("loss", 0.1, 3),
    has_stopped=True,
)
BEGIN = Begin(SAVED, {0: {"weight": torch.zeros(1)}})


def test_what_is_followed_goes_on():
    trainer = trainer_of(config_of(best="accuracy", early_stopping=STOPPING), begin=BEGIN)
    assert (trainer._best.best, trainer._best.num_since, trainer._best_step) == (0.9, 2, 4)
    assert trainer._best_tensors is BEGIN.best
    assert trainer._stopping.best == 0.1 and trainer._has_stopped
    trainer._checkpointer = fake = Notes()
    trainer._save(9)
    assert position_from_text(fake.saved[0].to_text(), "here") == SAVED


@pytest.mark.parametrize("best", [None, "loss"])
def test_the_best_by_another_metric_is_nothing_to_compare_with(best):
    """0.9 accuracy would never be reached by a loss, or always."""
    trainer = trainer_of(config_of(best=best, early_stopping=STOPPING), begin=BEGIN)
    assert trainer._best_tensors is None and trainer._best_step == 0
    assert trainer._best is None or trainer._best.best is None


@pytest.mark.parametrize("changed", [{"metric": "accuracy"}, {"patience": 4}])
def test_who_stopped_early_goes_on_with_another_rule(changed):
    trainer = trainer_of(config_of(best="accuracy", early_stopping=STOPPING | changed), begin=BEGIN)
    assert not trainer._has_stopped
    assert trainer._stopping.best == (None if "metric" in changed else 0.1)


@pytest.mark.parametrize(("num_replicas", "expected"), [(2, ["step 3", "step 9"]), (1, [])])
def test_replicas_are_compared_every_n_steps_too(num_replicas, expected, monkeypatch):
    """What is saved is compared anyway, which is what happens after step 6."""
    trainer = trainer_of(config_of(fault={"compare_replicas_every_steps": 3}), Notes())
    trainer._budget = SimpleNamespace(
        num_steps=11,
        steps_per_epoch=100,
        evaluates_after=lambda step: False,
        saves_after=lambda step: step == 5,
    )
    trainer._pipeline.place, trainer._pipeline.replicas_apart = SimpleNamespace(num_replicas=num_replicas), False
    trainer._loader = SimpleNamespace(training_batches=lambda places: places)
    trainer._refusals = SimpleNamespace(look=lambda **how: False)
    trainer._step = lambda step, batch: None
    looked = []
    monkeypatch.setattr(training, "check_weights", lambda pipeline, after, config: looked.append(after))
    assert trainer._train() == 11
    assert looked == expected


def test_what_cannot_be_removed_is_nothing_that_the_disk_is_asked_for(checkpointer, monkeypatch):
    """Else the rank would be taken for one whose disk does not answer."""
    doing = Doing()

    def prune(folder, newest, keep, kept_too, tell):
        tell("checkpoint 2: removing")
        assert doing.saving_seconds() > 0
        raise PermissionError(13, "Permission denied", "step-2")

    monkeypatch.setattr(checkpointing, "prune", prune)
    checkpointer._doing = doing.saving
    checkpointer.save(Position(step=4), None)
    assert "could not be removed" in checkpointer.finish()
    assert doing.saving_seconds() == 0


@pytest.mark.parametrize("unsaved", ["warn", "stop"])
def test_what_cannot_be_written_stops_a_run_that_wants_it(unsaved, checkpointer, monkeypatch):
    monkeypatch.setattr(checkpointing, "commit", raising(FULL))
    notes = Notes()
    trainer = trainer_of(config_of(fault={"unsaved": unsaved}), notes)
    trainer._checkpointer = checkpointer
    trainer._save(4)
    if unsaved == "stop":
        with pytest.raises(RunFailedError, match="rank 0 could not write it: No space left") as caught:
            trainer._save(8)
        assert caught.value.exit_code == 6
    else:
        trainer._save(8)
        assert notes.notes == [f"warning: {FULL}; the checkpoints before are untouched; the training goes on"]


def test_what_could_not_be_removed_stops_nobody(checkpointer, monkeypatch):
    monkeypatch.setattr(checkpointing, "prune", raising(PermissionError(13, "Permission denied", "step-2")))
    notes = Notes()
    trainer = trainer_of(config_of(fault={"unsaved": "stop"}), notes)
    trainer._checkpointer = checkpointer
    trainer._save(4)
    trainer._save(8)
    assert "could not be removed" in notes.notes[0]
