"""A `RunConfig` to YAML that loads to an equal one."""

import io
import os
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML

from pipemlp.config.files import replace_text
from pipemlp.config.root import RunConfig
from pipemlp.config.scalars import plain_scalar

_HEADING = "# PipeMLP configuration with every value written out; train it again with `pipemlp train` and this file\n"


def config_text(config: RunConfig) -> str:
    """The configuration as YAML, every key written out, in the order of the documentation."""
    yaml = YAML(typ="safe", pure=True)
    yaml.default_flow_style = False
    yaml.sort_base_mapping_type_on_output = False  # type: ignore[assignment]
    yaml.width = 120
    yaml.allow_unicode = True
    yaml.representer.add_representer(str, _text)
    yaml.representer.add_representer(list, _list)
    stream = io.StringIO()
    yaml.dump(config.model_dump(mode="json"), stream)
    return _HEADING + stream.getvalue()


def write_config(config: RunConfig, path: str | os.PathLike[str]) -> None:
    """Write `config_text` to a file, in one step. Relative paths stay as they are: see `paths.with_absolute_paths`.

    Raises:
        OSError: if the file cannot be written.
    """
    replace_text(Path(path), config_text(config))


def _text(representer: Any, value: str) -> Any:
    """Quotes text that our reader would not read back as that text."""
    plain = plain_scalar(value) == value and value.isprintable() and value not in ("<<", "=")
    return representer.represent_scalar("tag:yaml.org,2002:str", value, style=None if plain else '"')


def _list(representer: Any, value: list[Any]) -> Any:
    flow = not any(isinstance(item, dict | list) for item in value)
    return representer.represent_sequence("tag:yaml.org,2002:seq", value, flow_style=flow)
