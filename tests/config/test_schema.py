"""The JSON schema agrees with the loader."""

import json
from pathlib import Path

import pytest

from pipemlp.config.reading import read_yaml
from pipemlp.config.schema import config_schema

CONFIGS = Path(__file__).parents[2] / "configs"


def test_structure():
    schema = json.loads(json.dumps(config_schema()))
    assert schema["$schema"] == "https://json-schema.org/draft/2020-12/schema"
    assert schema["additionalProperties"] is False
    assert schema["properties"]["extends"]["type"] == "string"
    assert schema["anyOf"] == [{"required": ["data", "model"]}, {"required": ["extends"]}]
    names, *options = schema["properties"]["loss"]["anyOf"]
    assert names == {"enum": ["auto", "mse", "mae", "huber", "cross_entropy", "binary_cross_entropy"]}
    (huber,) = [option for option in options if option["title"] == "Huber"]
    assert huber["properties"]["delta"]["description"].startswith("Where the loss turns")
    assert huber["additionalProperties"] is False


def test_every_key_is_described():
    schema = config_schema()
    for model in [schema, *schema["$defs"].values()]:
        for name, field in model["properties"].items():
            assert name == "name" or field.get("description") or "$ref" in field, (model["title"], name)


@pytest.fixture(scope="module")
def validator():
    jsonschema = pytest.importorskip("jsonschema")
    schema = config_schema()
    jsonschema.Draft202012Validator.check_schema(schema)
    return jsonschema.Draft202012Validator(schema)


@pytest.mark.parametrize("path", sorted(CONFIGS.glob("*.yaml")), ids=lambda path: path.stem)
def test_shipped_configs_are_valid(validator, path):
    validator.validate(read_yaml(path).values)


@pytest.mark.parametrize(
    ("values", "valid"),
    [
        ({"loss": "mse"}, True),
        ({"loss": {"name": "mse"}}, True),
        ({"loss": "auto"}, True),
        ({"loss": {"name": "huber", "delta": 2}}, True),
        ({"loss": {"name": "mse", "delta": 2}}, False),
        ({"loss": "mes"}, False),
        ({"optimizer": {"lr": 0.1}}, True),
        ({"optimizer": {"lr": 0}}, False),
        ({"parallel": {"stages": "8"}}, False),
        ({"parallel": {"stagse": 8}}, False),
        ({"unknown": 1}, False),
    ],
)
def test_named_choices_and_ranges(validator, values, valid):
    assert validator.is_valid({"extends": "digits.yaml", **values}) is valid


def test_required(validator):
    assert not validator.is_valid({"data": {"source": "digits"}})
