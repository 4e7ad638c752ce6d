"""Rules over several keys: the key, the whole message, and nearest values that hold."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipemlp.config.root import RunConfig
from pipemlp.planning.checks import batch_problems, plan_notes, plan_problems
from pipemlp.planning.layers import describe_layers
from pipemlp.planning.resolve import resolve
from pipemlp.planning.shapes import DataShape
from pipemlp.schedule.methods import make_schedule

CLASSES = DataShape(5, (), 3, "classification", (100, 10, 10))
NUMBERS = DataShape(5, (), 1, "regression", (100, 10, 10))


def config_of(**sections):
    return RunConfig.model_validate({"data": {"source": "digits"}, "model": {"hidden": [8, 8]}, **sections})


def problems_of(shape=CLASSES, own=None, **sections):
    config, _ = resolve(config_of(**sections), shape, own)
    return list(plan_problems(config, describe_layers(config.model, shape), shape, own))


@pytest.mark.parametrize(
    ("batch", "parallel", "message"),
    [
        (
            50,
            {"data_parallel": 4, "micro_batches": 3},
            "50 is not divisible by data_parallel 4 x micro_batches 3 = 12; nearest valid values: 48 or 60",
        ),
        (5, {"data_parallel": 4}, "5 is not divisible by data_parallel 4 = 4; nearest valid values: 4 or 8"),
        (3, {"data_parallel": 8}, "3 is not divisible by data_parallel 8 = 8; nearest valid values: 8"),
        (
            7,
            {"micro_batches": 2},
            "7 is not divisible by data_parallel 1 x micro_batches 2 = 2; nearest valid values: 6 or 8",
        ),
    ],
)
def test_a_batch_that_does_not_divide(batch, parallel, message):
    config = config_of(training={"global_batch_size": batch}, parallel=parallel)
    assert list(batch_problems(config)) == [("training.global_batch_size", message)]


@given(batch=st.integers(1, 5000), replicas=st.integers(1, 64), micro_batches=st.just("auto") | st.integers(1, 64))
def test_the_nearest_batch_sizes_are_valid_and_nearest(batch, replicas, micro_batches):
    parallel = {"data_parallel": replicas, "micro_batches": micro_batches}

    def problems(size):
        return list(batch_problems(config_of(training={"global_batch_size": size}, parallel=parallel)))

    found = problems(batch)
    unit = replicas * (1 if micro_batches == "auto" else micro_batches)
    assert bool(found) == (batch % unit != 0)
    for _, message in found:
        nearest = [int(n) for n in re.findall(r"\d+", message.split("nearest valid values: ")[1])]
        assert all(problems(size) == [] and abs(size - batch) < unit for size in nearest)
        assert len(nearest) == (2 if batch > unit else 1)


def test_nothing_to_say_of_a_good_configuration():
    assert problems_of() == []
    assert (
        problems_of(
            parallel={"stages": 3, "partition": [0, 2, 3, 4], "recompute": 4, "schedule": "zb-h1"},
            training={"early_stopping": {"metric": "accuracy"}},
            checkpoint={"best": "loss"},
        )
        == []
    )


@pytest.mark.parametrize(
    ("sections", "problem"),
    [
        (
            {"parallel": {"stages": 8}},
            ("parallel.stages", "8 stages but the model has 4 layers, 1 of them without parameters; use at most 3"),
        ),
        (
            {"parallel": {"stages": 8, "partition": [0, 4]}},
            ("parallel.stages", "8 stages but the model has 4 layers, 1 of them without parameters; use at most 3"),
        ),
        (
            {"parallel": {"stages": 2, "partition": [0, 4]}},
            ("parallel.partition", "[0, 4] has 2 boundaries, but 2 stages need 2 + 1 = 3"),
        ),
        ({"parallel": {"recompute": 5}}, ("parallel.recompute", "every 5 layers, but the model has 4")),
        (
            {"parallel": {"stages": 2, "schedule": "zb-v"}},
            (
                "parallel.stages",
                "2 stages x 2 virtual stages = 4 but the model has 4 layers, 1 of them without parameters; "
                "use at most 1",
            ),
        ),
        (
            {"parallel": {"stages": 2, "schedule": "1f1b", "virtual_stages": 2}},
            ("parallel.virtual_stages", "1f1b with 2 virtual stages per stage; it takes 1"),
        ),
        (
            {"parallel": {"stages": 2, "schedule": "zb-v", "virtual_stages": 1}},
            ("parallel.virtual_stages", "zb-v with 1 virtual stage per stage; it takes 2"),
        ),
        (
            {"parallel": {"stages": 2, "schedule": "zb-auto", "virtual_stages": 3}},
            ("parallel.virtual_stages", "zb-auto with 3 virtual stages per stage; it takes 1 or 2"),
        ),
        (
            {"evaluation": {"metrics": ["acuracy"]}},
            (
                "evaluation.metrics",
                "no metric 'acuracy' for classification; choose from accuracy, macro_f1, log_loss; "
                "did you mean accuracy?",
            ),
        ),
        (
            {"evaluation": {"metrics": ["rmse"]}},
            ("evaluation.metrics", "no metric 'rmse' for classification; choose from accuracy, macro_f1, log_loss"),
        ),
        (
            {"checkpoint": {"best": "log_los"}},
            (
                "checkpoint.best",
                "no metric 'log_los' for classification; choose from accuracy, macro_f1, log_loss, loss; "
                "did you mean log_loss?",
            ),
        ),
        (
            {"checkpoint": {"best": "log_loss"}, "evaluation": {"metrics": ["accuracy"]}},
            ("checkpoint.best", "log_loss is not among evaluation.metrics (accuracy); add it there"),
        ),
        (
            {"training": {"early_stopping": {"metric": "r2"}}},
            (
                "training.early_stopping.metric",
                "no metric 'r2' for classification; choose from accuracy, macro_f1, log_loss, loss",
            ),
        ),
    ],
    ids=str,
)
def test_messages(sections, problem):
    assert problems_of(**sections) == [problem]


def test_a_schedule_of_ones_own_has_its_sizes():
    own = make_schedule("zb-h1", 2, 4)
    parallel = {"schedule": "own.csv", "stages": 2}
    assert problems_of(own=own, parallel=parallel) == []
    assert problems_of(own=own, parallel={"schedule": "own.csv", "virtual_stages": 2, "micro_batches": 8}) == [
        ("parallel.stages", "1, but the schedule in own.csv is for 2"),
        ("parallel.micro_batches", "8, but the schedule in own.csv is for 4"),
        ("parallel.virtual_stages", "2, but the schedule in own.csv is for 1"),
    ]
    assert problems_of(own=own, parallel=parallel, training={"global_batch_size": 62}) == [
        (
            "training.global_batch_size",
            "62 is not divisible by data_parallel 1 x micro_batches 4 = 4; nearest valid values: 60 or 64",
        )
    ]


def test_judging_needs_validation_rows():
    needs = "needs validation rows, but there are none; set data.split.validation or data.path.validation"
    nothing_held_out = DataShape(5, (), 1, "regression", (100, 0, 10))
    sections = {"checkpoint": {"best": "rmse"}, "training": {"early_stopping": {"metric": "loss"}}}
    assert problems_of(nothing_held_out, **sections) == [
        ("checkpoint.best", needs),
        ("training.early_stopping.metric", needs),
    ]
    assert problems_of(NUMBERS, **sections) == []


def test_a_warm_up_as_long_as_the_run_is_noted():
    config, _ = resolve(config_of(lr_schedule={"name": "cosine", "warmup_steps": 20}, training={"epochs": 10}), CLASSES)
    assert list(plan_notes(config, CLASSES)) == [
        "lr_schedule.warmup_steps: 20, but the run has 20 steps (2 per epoch): the learning rate never reaches its "
        "full height"
    ]


def test_all_problems_come_together():
    found = problems_of(parallel={"stages": 9, "recompute": 9}, checkpoint={"best": "rmse"})
    assert [key for key, _ in found] == [
        "parallel.stages",
        "parallel.recompute",
        "checkpoint.best",
    ]
