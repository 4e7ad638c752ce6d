"""Import the user's own modules, whose decorators register blocks, losses, metrics and sources."""

import importlib
import sys
from collections.abc import Sequence
from pathlib import Path

from pipemlp.config.errors import ConfigError

_loaded: dict[str, None] = {}


def loaded_plugins() -> list[str]:
    """Names of the modules that were imported as plug-ins, sorted; what they register is as global as this."""
    return sorted(_loaded)


def load_plugins(modules: Sequence[str]) -> None:
    """Import each module; the current folder counts as a place to find them.

    Raises:
        ConfigError: naming the module and why it cannot be imported.
    """
    if modules and str(Path.cwd()) not in sys.path:
        sys.path.insert(0, str(Path.cwd()))
    for module in modules:
        try:
            importlib.import_module(module)
            _loaded[module] = None
        except Exception as error:
            raise ConfigError(
                f"--plugin {module}: cannot be imported: {type(error).__name__}: {error}; give a module's name, "
                "such as my_blocks for my_blocks.py in the current folder"
            ) from error
