"""The JSON schema of a config file, for editors."""

from typing import Any

from pipemlp.config.root import RunConfig

_EXTENDS = {
    "type": "string",
    "minLength": 1,
    "description": "A config file, relative to this one, that this one says the differences to.",
}


def config_schema() -> dict[str, Any]:
    """JSON schema (draft 2020-12) of everything a config file may say, registered names included.

    A section may be partial, since `extends` completes it; only `data` and `model` are required, and only
    of a file that extends nothing.
    """
    schema = RunConfig.model_json_schema(mode="validation")
    for name, definition in schema["$defs"].items():
        if name != "HiddenGroup":  # stands in a list, which replaces: it is always whole
            definition.pop("required", None)
    required = schema.pop("required")
    schema["properties"] = {"extends": _EXTENDS, **schema["properties"]}
    schema["anyOf"] = [{"required": required}, {"required": ["extends"]}]
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **schema, "title": "PipeMLP configuration"}
