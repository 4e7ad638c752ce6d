"""Where a value was written, for checks made later; and that this is no part of what a config says."""

import pickle
from pathlib import Path

import pytest
from pydantic import ValidationError

from pipemlp.config import RunConfig, load_config, problems_error

VALUES = {"data": {"source": "digits"}, "model": {"hidden": [8]}}


@pytest.fixture
def config(write):
    text = "parallel:\n  stages: 2\n  partition: [0, 1, 3]\nmodel:\n  hidden:\n    - 8\n    - {width: 4}\n"
    text += "data: {source: digits}\n"
    return load_config(write(text, "configs/a.yaml"), ["training.steps=3"])


def test_where(config):
    assert config.where("parallel.stages") == "configs/a.yaml:2"
    assert config.where("parallel.partition[1]") == "configs/a.yaml:3"
    assert config.where("parallel.zero_stage") == "configs/a.yaml:1"
    assert config.where("model.hidden[1].width") == "configs/a.yaml:7"
    assert config.where("model.hidden[1].repeat") == "configs/a.yaml:7"
    assert config.where("loss") == "configs/a.yaml"
    assert config.where("training.steps") == "command line"


def test_paths(config, folder):
    assert config.source_path == Path("configs/a.yaml")
    assert config.base_dir == folder / "configs"


def test_made_in_python(folder):
    config = RunConfig.model_validate(VALUES)
    assert config.where("parallel.stages") == ""
    assert config.source_path is None
    assert config.base_dir == folder
    assert str(problems_error(config, [("parallel.stages", "too many")])) == "parallel.stages: too many"


def test_problems_error(config):
    error = problems_error(config, [("parallel.stages", "8 stages but ..."), ("loss", "no")])
    assert error.messages == ("configs/a.yaml:2: parallel.stages: 8 stages but ...", "configs/a.yaml: loss: no")
    assert error.exit_code == 2


def test_no_part_of_equality_or_dumps(write):
    loaded = load_config(write("data: {source: digits}\nmodel: {hidden: [8]}\n"))
    made = RunConfig.model_validate(VALUES)
    assert loaded == made and hash(loaded) == hash(made)
    assert loaded.model_dump() == made.model_dump()
    assert loaded != load_config("a.yaml", ["run.seed=1"])


def test_survives_copies_and_pickling(config):
    parallel = config.parallel.model_copy(update={"stages": 1})
    assert config.model_copy(update={"parallel": parallel}).where("parallel.stages") == "configs/a.yaml:2"
    assert config.model_copy(deep=True).where("parallel.stages") == "configs/a.yaml:2"
    again = pickle.loads(pickle.dumps(config))
    assert again == config and again.where("parallel.stages") == "configs/a.yaml:2"


def test_frozen(config):
    with pytest.raises(ValidationError):
        config.loss = "mse"
    with pytest.raises(ValidationError):
        config.parallel.stages = 3
