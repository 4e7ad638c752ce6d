"""`extends: other.yaml`: a file that says only how it differs from its parent."""

import os

from pipemlp.config.errors import ConfigError
from pipemlp.config.merging import lay_over
from pipemlp.config.paths import rebase
from pipemlp.config.reading import Document, scan_yaml


def read_with_parents(path: str | os.PathLike[str], children: tuple[str, ...] = ()) -> Document:
    """Read a file and all it extends, laid over each other, the file itself on top.

    Relative paths in `data` are turned to be relative to the file itself, not to the parent that has them.

    Raises:
        ConfigError: if a file cannot be read, or extends itself over any number of parents.
    """
    file = os.fspath(path)
    document = scan_yaml(file)
    if "extends" not in document.values:
        return document
    parent = document.values.pop("extends")
    at = document.positions.pop(("extends",))
    if not isinstance(parent, str) or not parent:
        raise ConfigError(f"{at}: extends: one file name is expected, such as `extends: digits.yaml`")
    folder = os.path.dirname(file)
    parent_file = os.path.normpath(os.path.join(folder, parent))
    seen = (*children, file)
    if any(os.path.realpath(parent_file) == os.path.realpath(other) for other in seen):
        raise ConfigError(f"{at}: extends: {' extends '.join((*seen, parent_file))}: a circle; one must extend nothing")
    try:
        below = read_with_parents(parent_file, seen)
    except ConfigError as error:
        if not os.path.isfile(parent_file):
            raise ConfigError(f"{at}: extends: {message}" for message in error.messages) from None
        raise
    rebase(below.values, os.path.dirname(parent_file), folder)
    return lay_over(below, document)
