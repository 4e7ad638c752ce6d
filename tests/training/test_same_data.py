"""A rank that reads other rows than rank 0 stops with a message, instead of training on a mixture."""

from dataclasses import replace

import pytest

from pipemlp.config.errors import DataError
from pipemlp.config.loading import load_config
from pipemlp.training import worker
from pipemlp.training.preparation import prepare_run


@pytest.fixture
def data(tmp_path, monkeypatch):
    monkeypatch.setattr(worker.dist, "get_rank", lambda: 1)
    path = tmp_path / "a.yaml"
    path.write_text("data: {source: {name: teacher, rows: 200, inputs: 3}}\nmodel: {hidden: []}\n")
    return prepare_run(load_config(path)).data


def test_the_same_data_pass(data):
    assert worker.same_data(data, data.preprocessing, data.content) is data


def test_other_content_is_refused(data):
    with pytest.raises(DataError, match=r"data: rank 1 on .* reads other content than rank 0"):
        worker.same_data(data, data.preprocessing, ["another"])


def test_other_statistics_are_refused(data):
    means = tuple(mean + 1 for mean in data.preprocessing.means)
    with pytest.raises(DataError, match="reads other statistics than rank 0"):
        worker.same_data(data, replace(data.preprocessing, means=means), data.content)
