"""Every `auto` becomes a value, and what was decided is said."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipemlp.config.model import BinaryCrossEntropy, CrossEntropy, Mse
from pipemlp.config.root import RunConfig
from pipemlp.planning.resolve import automatic_micro_batches, resolve
from pipemlp.planning.shapes import DataShape
from pipemlp.schedule.methods import METHODS, make_schedule

SHAPES = {
    "regression": DataShape(5, (4, 3), 1, "regression", (90, 5, 5)),
    "classification": DataShape(5, (4, 3), 3, "classification", (90, 5, 5)),
    "multilabel": DataShape(5, (4, 3), 2, "multilabel", (90, 5, 5)),
}


def config_of(**sections):
    return RunConfig.model_validate({"data": {"source": "digits"}, "model": {"hidden": [8]}, **sections})


def resolved(task="classification", **sections):
    return resolve(config_of(**sections), SHAPES[task])


def autos(value, path=""):
    """Every key that still says `auto`."""
    if isinstance(value, dict):
        return [found for key, inner in value.items() for found in autos(inner, f"{path}.{key}".strip("."))]
    return [path] if value == "auto" else []


@pytest.mark.parametrize(
    ("task", "loss", "metrics"),
    [
        ("regression", Mse(), ("rmse", "mae", "r2")),
        ("classification", CrossEntropy(), ("accuracy", "macro_f1", "log_loss")),
        ("multilabel", BinaryCrossEntropy(), ("accuracy", "macro_f1", "log_loss")),
    ],
)
def test_loss_and_metrics_follow_the_task(task, loss, metrics):
    config, notes = resolved(task)
    assert (config.loss, config.evaluation.metrics) == (loss, metrics)
    assert f"evaluation.metrics: {', '.join(metrics)}" in notes


def test_top_5_is_automatic_with_more_than_five_classes_only():
    for num_classes, expected in ((5, False), (6, True)):
        config, _ = resolve(config_of(), DataShape(5, (), num_classes, "classification", (90, 5, 5)))
        assert ("top_5_accuracy" in config.evaluation.metrics) == expected
        assert "top_3_accuracy" not in config.evaluation.metrics


def test_no_auto_is_left_but_those_of_run_and_data():
    config, _ = resolved(parallel={"stages": 2})
    left = autos(config.model_dump(mode="json"))
    assert left and {key.split(".")[0] for key in left} == {"run", "data"}
    assert (config.model.input_width, config.model.output_width) == (5 + 4 + 3, 3)
    assert (config.parallel.virtual_stages, config.parallel.micro_batches) == (1, 8)
    assert (config.training.epochs, config.training.steps) == (10, None)
    assert (config.evaluation.every_epochs, config.evaluation.every_steps) == (1, None)


def test_what_is_given_stays_and_is_not_noted():
    given_values = {
        "loss": {"name": "cross_entropy", "label_smoothing": 0.1},
        "training": {"steps": 7},
        "evaluation": {"every_steps": 3, "metrics": ["log_loss"]},
        "parallel": {"stages": 2, "data_parallel": 2, "micro_batches": 4, "zero_stage": 1},
    }
    config, notes = resolved(**given_values)
    assert notes == ()
    assert config.loss == CrossEntropy(label_smoothing=0.1)
    assert (config.training.epochs, config.training.steps) == (None, 7)
    assert (config.evaluation.every_epochs, config.evaluation.every_steps) == (None, 3)
    assert config.evaluation.metrics == ("log_loss",)
    assert (config.parallel.micro_batches, config.parallel.zero_stage) == (4, 1)


GIVEN = {"loss": "mse", "training": {"epochs": 1}, "evaluation": {"metrics": ["rmse"]}}


@pytest.mark.parametrize(
    ("sections", "notes"),
    [
        ({}, ("parallel.micro_batches: 1",)),
        ({"parallel": {"stages": 4}}, ("parallel.micro_batches: 16",)),
        ({"parallel": {"stages": 3}}, ("parallel.micro_batches: 8",)),  # 12 does not divide 64; 8 and 16 are as near
        (
            {"parallel": {"micro_batches": 2}, "training": {}},
            ("training.epochs: 10, as neither epochs nor steps is given",),
        ),
        (
            {"parallel": {"micro_batches": 2}, "precision": "bf16"},
            ("parallel.zero_stage: 1, because DeepSpeed accumulates and reduces bf16 gradients in float32 only then",),
        ),
        (
            {"parallel": {"micro_batches": 2, "zero_stage": 1}},
            ("parallel.zero_stage: 1 shards nothing with one replica; the numbers are the same as with 0",),
        ),
        ({"parallel": {"micro_batches": 2, "zero_stage": 1, "data_parallel": 2}}, ()),
        ({"parallel": {"micro_batches": 2, "schedule": "zb-v"}}, ("parallel.virtual_stages: 2, as zb-v has",)),
        ({"parallel": {"micro_batches": 2, "schedule": "zb-v", "virtual_stages": 2}}, ()),
        ({"parallel": {"micro_batches": 2, "schedule": "zb-h2"}}, ()),
    ],
    ids=str,
)
def test_notes(sections, notes):
    config, found = resolved("regression", **(GIVEN | sections))
    assert found == notes
    if sections.get("precision") == "bf16":
        assert config.parallel.zero_stage == 1


@pytest.mark.parametrize("name", METHODS)
def test_virtual_stages_are_those_of_the_schedule(name):
    config, _ = resolved(parallel={"stages": 2, "schedule": name})
    METHODS[name].check(config.parallel.virtual_stages)
    assert make_schedule(name, 2, 8).num_virtual_stages == config.parallel.virtual_stages


def test_a_schedule_of_ones_own_decides_too():
    own, shape = make_schedule("interleaved-1f1b", 2, 6, 3), SHAPES["regression"]
    config, notes = resolve(config_of(parallel={"stages": 2, "schedule": "own.csv"}), shape, own)
    assert (config.parallel.virtual_stages, config.parallel.micro_batches) == (3, 6)
    assert {"parallel.virtual_stages: 3, as own.csv has", "parallel.micro_batches: 6"} <= set(notes)
    given = config_of(parallel={"stages": 2, "schedule": "own.csv", "virtual_stages": 1, "micro_batches": 4})
    kept, _ = resolve(given, shape, own)
    assert (kept.parallel.virtual_stages, kept.parallel.micro_batches) == (1, 4)


def test_resolving_twice_changes_nothing():
    once, _ = resolved(parallel={"stages": 2}, precision="bf16")
    twice, notes = resolve(once, SHAPES["classification"])
    assert twice == once
    assert [note for note in notes if "shards nothing" not in note] == []


@given(num_stages=st.integers(1, 64), replica_rows=st.integers(0, 3000))
def test_automatic_micro_batches_always_divide(num_stages, replica_rows):
    found = automatic_micro_batches(num_stages, replica_rows)
    if num_stages == 1 or replica_rows == 0:
        assert found == 1
        return
    assert replica_rows % found == 0
    nearer = range(4 * num_stages - abs(found - 4 * num_stages) + 1, 4 * num_stages + abs(found - 4 * num_stages))
    assert not any(replica_rows % n == 0 for n in nearer if n > 0)
