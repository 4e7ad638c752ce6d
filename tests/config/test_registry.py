"""Names that a plug-in adds are choices like the built-in ones."""

import pytest

from pipemlp.config import load_config, registry
from pipemlp.config.model import Mse
from pipemlp.config.registry import names_of, register_name
from pipemlp.config.schema import config_schema
from pipemlp.config.section import Named, Positive


@pytest.fixture(autouse=True)
def restored(monkeypatch):
    for kind, names in registry._options.items():
        monkeypatch.setitem(registry._options, kind, dict(names))


class Mixer(Named):
    """Mixes tokens."""

    tokens: Positive
    """Number of tokens."""


def test_a_registered_name_with_options(write, refused):
    register_name("block", "stirrer", Mixer)
    config = load_config(write("data: {source: digits}\nmodel: {hidden: [8], block: {name: stirrer, tokens: 4}}\n"))
    assert config.model.block == Mixer(name="stirrer", tokens=4)
    assert refused("data: {source: digits}\nmodel: {hidden: [8], block: {name: stirrer, tokens: 0}}\n", base=False) == [
        "a.yaml:2: model.block.tokens: 0 is too small; at least 1"
    ]
    assert refused("data: {source: digits}\nmodel: {hidden: [8], block: stirrer}\n", base=False) == [
        "a.yaml:2: model.block.tokens: missing key; it is required: number of tokens"
    ]


def test_a_registered_name_without_options(write, refused):
    register_name("loss", "own")
    assert load_config(write("loss: own\n", base=True)).loss.name == "own"
    assert refused("loss: {name: own, x: 1}\n") == ["a.yaml:3: loss.x: unknown key; own has no options"]
    assert "own" in config_schema()["properties"]["loss"]["anyOf"][0]["enum"]


def test_a_taken_name():
    with pytest.raises(ValueError, match="the loss name 'mse' is already taken; choose another"):
        register_name("loss", "mse", Mixer)
    register_name("loss", "mse", Mse)
    assert names_of("loss").count("mse") == 1
