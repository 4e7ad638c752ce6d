"""`extends: other.yaml`: files that say differences."""

import pytest

from pipemlp.config import ConfigError, load_config

PARENT = """\
data: {source: digits, split: {validation: 0.1, test: 0.2}}
model: {hidden: {width: 128, depth: 16}, block: residual}
loss: cross_entropy
training: {epochs: 20, global_batch_size: 64}
optimizer: {name: adamw, lr: 2e-3, betas: [0.8, 0.9]}
"""


@pytest.fixture
def parent(write):
    return write(PARENT, "parent.yaml")


def test_mappings_merge_and_everything_else_replaces(write, parent):
    child = write("extends: parent.yaml\nmodel: {hidden: {depth: 4}}\noptimizer: {betas: [0.1, 0.2]}\nrun: {seed: 7}\n")
    config = load_config(child)
    assert (config.model.hidden.width, config.model.hidden.depth, config.model.block.name) == (128, 4, "residual")
    assert (config.optimizer.lr, config.optimizer.betas, config.run.seed) == (2e-3, (0.1, 0.2), 7)
    assert load_config(write("extends: parent.yaml\nmodel: {hidden: [8]}\n")).model.hidden == (8,)


def test_another_name_replaces(write, parent):
    config = load_config(write("extends: parent.yaml\noptimizer: {name: adam}\n"))
    assert (config.optimizer.lr, config.optimizer.betas) == (1e-3, (0.9, 0.999))
    config = load_config(write("extends: parent.yaml\noptimizer: {name: adamw, eps: 1e-6}\n"))
    assert (config.optimizer.lr, config.optimizer.eps) == (2e-3, 1e-6)


def test_options_are_laid_over_a_name(write, parent):
    assert load_config(write("extends: parent.yaml\nloss: {label_smoothing: 0.2}\n")).loss.label_smoothing == 0.2


def test_the_child_decides_between_exclusive_keys(write, parent, refused):
    training = load_config(write("extends: parent.yaml\ntraining: {steps: 5}\n")).training
    assert (training.steps, training.epochs, training.global_batch_size) == (5, None, 64)
    assert refused("extends: parent.yaml\ntraining: {steps: 5, epochs: 2}\n", base=False) == [
        "a.yaml:2: training: epochs 2 and steps 5 are both given; keep one of them"
    ]


def test_equal_to_the_file_written_out(write, parent):
    write("extends: parent.yaml\nrun: {seed: 3}\n", "middle.yaml")
    child = load_config(write("extends: middle.yaml\nloss: mse\n"))
    flat = load_config(write(PARENT.replace("cross_entropy", "mse") + "run: {seed: 3}\n", "flat.yaml"))
    assert child == flat


def test_each_value_keeps_its_file_and_line(write, parent):
    config = load_config(write("extends: parent.yaml\n\ntraining: {epochs: 3}\n"), ["run.seed=2"])
    assert config.where("training.epochs") == "a.yaml:3"
    assert config.where("training.global_batch_size") == "parent.yaml:4"
    assert config.where("model.hidden.width") == "parent.yaml:2"
    assert config.where("run.seed") == "command line"


def test_problems_of_all_files_in_one_report(write, refused):
    write("data: {source: digits}\nmodel: {hidden: [0]}\nparallel: {stages: 0}\n", "configs/base/p.yaml")
    write("extends: base/p.yaml\nrun: {seed: -1}\n", "configs/a.yaml")
    with pytest.raises(ConfigError) as caught:
        load_config("configs/a.yaml")
    assert caught.value.messages == (
        "configs/a.yaml:2: run.seed: -1 is too small; at least 0",
        "configs/base/p.yaml:2: model.hidden[0]: 0 is too small; at least 1",
        "configs/base/p.yaml:3: parallel.stages: 0 is too small; at least 1",
    )


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("extends: a.yaml", "a.yaml:1: extends: a.yaml extends a.yaml: a circle; one must extend nothing"),
        (
            "extends: b.yaml",
            "b.yaml:2: extends: a.yaml extends b.yaml extends a.yaml: a circle; one must extend nothing",
        ),
        ("extends: paren.yaml", "a.yaml:1: extends: paren.yaml: no such file; did you mean parent.yaml?"),
        ("extends: [parent.yaml]", "a.yaml:1: extends: one file name is expected, such as `extends: digits.yaml`"),
        ("extends:", "a.yaml:1: extends: one file name is expected, such as `extends: digits.yaml`"),
        ("extends: .", "a.yaml:1: extends: .: a directory, not a file; give one of its files, such as ./a.yaml"),
        (
            "extends: broken.yaml",
            "broken.yaml:2: not readable as YAML: a bracket or quote opened before is never closed",
        ),
        ("extends: orphan.yaml", "orphan.yaml:1: extends: nowhere_to_be_found.yaml: no such file"),
    ],
)
def test_refused(write, parent, refused, line, message):
    write("# b\nextends: a.yaml\n", "b.yaml")
    write("a: [\n", "broken.yaml")
    write("extends: nowhere_to_be_found.yaml\n", "orphan.yaml")
    assert refused(line + "\n", base=False) == [message]


def test_duplicates_in_a_parent_are_found(write, refused):
    write("data: {source: digits}\nmodel: {hidden: [8]}\nrun: {seed: 1}\nrun: {seed: 2}\n", "parent.yaml")
    assert refused("extends: parent.yaml\n", base=False) == ["parent.yaml:4: run: key set twice; first on line 3"]


def test_a_data_path_stays_relative_to_the_file_that_has_it(write, folder):
    write("data: {path: {train: houses.csv, test: /d/t.csv}}\nmodel: {hidden: [8]}\n", "shared/p.yaml")
    config = load_config(write("extends: ../shared/p.yaml\n", "mine/a.yaml"))
    assert config.data.path.train == "../shared/houses.csv"
    assert config.data.path.test == "/d/t.csv"
    assert config.base_dir == folder / "mine"


def test_so_does_the_path_of_a_schedule(write):
    write("data: {source: digits}\nmodel: {hidden: [8]}\nparallel: {schedule: own.csv}\n", "shared/p.yaml")
    assert load_config(write("extends: ../shared/p.yaml\n", "mine/a.yaml")).parallel.schedule == "../shared/own.csv"
    named = write("extends: ../shared/p.yaml\nparallel: {schedule: zb-v}\n", "mine/b.yaml")
    assert load_config(named).parallel.schedule == "zb-v"
