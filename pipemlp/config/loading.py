"""From a config file and overrides to a `RunConfig`, or to one report of all that is wrong with them."""

import os
from collections.abc import Iterable, Sequence

from pydantic import ValidationError

from pipemlp.config.errors import ConfigError
from pipemlp.config.extends import read_with_parents
from pipemlp.config.messages import explain
from pipemlp.config.origin import COMMAND_LINE, Origin, format_key
from pipemlp.config.overrides import apply_overrides
from pipemlp.config.reading import Document, Problem
from pipemlp.config.root import RunConfig


def load_config(path: str | os.PathLike[str], overrides: Sequence[str] = ()) -> RunConfig:
    """Read, merge and check a configuration.

    `path` is shown in messages as given. `overrides` are `section.key=value`, laid over the file in order.

    Raises:
        ConfigError: with one line per problem, in the order of the file: `configs/a.yaml:12: parallel.stages: ...`.
    """
    file = os.fspath(path)
    document = apply_overrides(read_with_parents(file), overrides)
    origin = Origin(file, document.positions)
    problems = list(document.problems)
    config = None
    try:
        config = RunConfig.model_validate(document.values)
    except ValidationError as error:
        problems += explain(error, document.values)
    if problems or config is None:
        raise ConfigError(_report(problems, origin, document))
    return config.placed(origin)


def problems_error(config: RunConfig, problems: Iterable[tuple[str, str]]) -> ConfigError:
    """The error, for the caller to raise, that says where in the configuration each (key, text) was written."""
    return ConfigError(_line(config.where(key), key, text) for key, text in problems)


def _report(problems: Sequence[Problem], origin: Origin, document: Document) -> list[str]:
    """One line per problem: the file's in the order of its lines, its parents', then the command line's."""
    files = [*document.files, COMMAND_LINE]
    placed = [(problem.position or origin.where(problem.key), problem) for problem in problems]
    # A value refused while reading (for its tag, say) has that one reason, whatever the text left of it lacks.
    refused = {(problem.position, problem.key) for problem in document.problems}
    placed = [(at, problem) for at, problem in placed if problem.position or (at, problem.key) not in refused]
    placed.sort(key=lambda pair: (files.index(pair[0].file), pair[0].line))
    return [_line(str(position), format_key(problem.key), problem.text) for position, problem in placed]


def _line(where: str, key: str, text: str) -> str:
    return ": ".join(part for part in (where, key, text) if part)
