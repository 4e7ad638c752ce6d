"""Errors a user can cause, each with the exit code promised for `pipemlp`."""

from collections.abc import Iterable


class UserError(Exception):
    """An error with a message for the user, printed without a traceback.

    `messages` are whole lines, one per problem; `exit_code` is what the process ends with.
    """

    exit_code = 1

    def __init__(self, messages: str | Iterable[str]) -> None:
        self.messages = (messages,) if isinstance(messages, str) else tuple(messages)
        super().__init__("\n".join(self.messages))


class ConfigError(UserError):
    """The configuration or the command is wrong."""

    exit_code = 2


class DataError(UserError):
    """The data files are missing, damaged or do not fit the configuration."""

    exit_code = 3


class ModelFileError(UserError):
    """A saved model or checkpoint is missing, damaged or of another kind."""

    exit_code = 4


class ClusterError(UserError):
    """Processes, devices, hosts or ports are not as the run needs them."""

    exit_code = 5


class RunFailedError(UserError):
    """The run itself failed: non-finite values, out of memory."""

    exit_code = 6


class NotFiniteError(RunFailedError):
    """Numbers were lost, and would be again: from the same checkpoint every step has the same bits."""
