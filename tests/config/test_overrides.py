"""`section.key=value` on the command line."""

import os

import pytest

from pipemlp.config import load_config


def test_values_are_yaml_1_2(write):
    name = write("", base=True)
    config = load_config(
        name,
        [
            "optimizer.lr=1e-4",
            "model.hidden=[32, {width: 16, repeat: 2}]",
            "run.name = off",
            "data.weight='8'",
            "training.clip_norm=1",
            "data.target=a: b #c",
        ],
    )
    assert config.optimizer.lr == 1e-4
    assert [getattr(group, "width", group) for group in config.model.hidden] == [32, 16]
    assert config.run.name == "off"
    assert config.data.weight == "8"
    assert config.training.clip_norm == 1
    assert config.data.target == "a: b #c"


def test_the_last_one_counts(write):
    assert load_config(write("", base=True), ["run.seed=1", "run.seed=2"]).run.seed == 2


def test_null_unsets(write):
    assert load_config(write("training: {clip_norm: 1.0}\n", base=True), ["training.clip_norm=null"]) == load_config(
        write("", "b.yaml", base=True)
    )


@pytest.mark.parametrize(
    ("file", "override", "section", "steps", "epochs"),
    [
        ("training: {epochs: 3}", "training.steps=5", "training", 5, None),
        ("training: {steps: 3}", "training.epochs=5", "training", None, 5),
        ("training: {epochs: 3}", "training.steps=null", "training", None, 3),
        ("evaluation: {every_epochs: 3}", "evaluation.every_steps=5", "evaluation", 5, None),
        ("evaluation: {every_steps: 3}", "evaluation.every_epochs=5", "evaluation", None, 5),
    ],
)
def test_one_of_two_exclusive_keys_drops_the_other(write, file, override, section, steps, epochs):
    part = getattr(load_config(write(file + "\n", base=True), [override]), section)
    prefix = "every_" if section == "evaluation" else ""
    assert (getattr(part, prefix + "steps"), getattr(part, prefix + "epochs")) == (steps, epochs)


def test_both_exclusive_keys_on_the_command_line(refused):
    assert refused("training: {epochs: 3}\n", "training.steps=5", "training.epochs=1") == [
        "command line: training: epochs 1 and steps 5 are both given; keep one of them"
    ]


def test_into_a_section_written_as_its_name(write):
    name = write("loss: cross_entropy\nmodel2: 1\n".replace("model2: 1\n", ""), base=True)
    assert load_config(name, ["loss.label_smoothing=0.1"]).loss.label_smoothing == 0.1
    assert load_config(name, ["data.source.name=teacher", "data.source.rows=7"]).data.source.rows == 7
    assert load_config(name, ["loss=huber", "loss.delta=2"]).loss.delta == 2


def test_into_the_default_choice(write):
    assert load_config(write("", base=True), ["optimizer.lr=0.5"]).optimizer.name == "adamw"


def test_another_name_starts_from_its_defaults(write):
    name = write("optimizer: {name: adamw, lr: 0.5, betas: [0.8, 0.9]}\n", base=True)
    for overrides in (
        ["optimizer.name=sgd", "optimizer.momentum=0.9"],
        ["optimizer.momentum=0.9", "optimizer.name=sgd"],
    ):
        optimizer = load_config(name, overrides).optimizer
        assert (optimizer.name, optimizer.lr, optimizer.momentum) == ("sgd", 0.01, 0.9)


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("training", "training: no `=`; an override is written section.key=value, such as parallel.stages=2"),
        ("=3", "=3: no key before `=`; write section.key=value, such as parallel.stages=2"),
        ("a.=3", "a.=3: no key before `=`; write section.key=value, such as parallel.stages=2"),
        ("run.seed=", "run.seed=: no value after `=`; write run.seed=null to unset it"),
        ("extends=b.yaml", "extends=b.yaml: extends belongs in the file, not on the command line"),
        (
            "model.hidden=[1",
            "model.hidden=[1: the value is not readable as YAML: a bracket or quote opened here is never closed",
        ),
        ("run={seed: 1, seed: 2}", "run={seed: 1, seed: 2}: the value is not readable as YAML: key set twice; "
         "first on line 1"),
        ("trainig.steps=5", "trainig: unknown key; did you mean training?"),
        ("training.lr=5", "training.lr: unknown key; did you mean optimizer.lr?"),
        ("loss.label_smoothing=0.1", "loss.name: missing key; known names are mse, mae, huber, "
         "cross_entropy, binary_cross_entropy"),
        ("parallel.stages=8.0", "parallel.stages: 8.0 is written with a fraction; a whole number is expected; write 8"),
        ("parallel.stages=1_0", 'parallel.stages: "1_0" is text; a whole number is expected; write 10'),
    ],
)  # fmt: skip
def test_refused(refused, override, message):
    assert refused("", override) == [f"command line: {message}"]


def test_a_path_is_relative_to_the_current_folder(write):
    name = write("data: {path: x.csv}\nmodel: {hidden: [8]}\n", "configs/a.yaml")
    config = load_config(name, ["data.path=own/*.csv"])
    assert config.data.path == os.path.abspath("own/*.csv")
    assert os.path.normpath(config.base_dir / config.data.path) == os.path.abspath("own/*.csv")
    assert load_config(name, ["data.path=/d/x.csv"]).data.path == "/d/x.csv"
    assert load_config(name, ["data.path.train=t.csv"]).data.path.train == os.path.abspath("t.csv")
    assert load_config(name, ["run.seed=1"]).data.path == "x.csv"
    assert load_config(name, ["parallel.schedule=own.csv"]).parallel.schedule == os.path.abspath("own.csv")
    assert load_config(name, ["parallel.schedule=gpipe"]).parallel.schedule == "gpipe"
