"""The configuration: documented, checked models, and the loader that says file and line."""

from pipemlp.config.errors import (
    ClusterError,
    ConfigError,
    DataError,
    ModelFileError,
    RunFailedError,
    UserError,
)
from pipemlp.config.loading import load_config, problems_error
from pipemlp.config.root import RunConfig

__all__ = [
    "ClusterError",
    "ConfigError",
    "DataError",
    "ModelFileError",
    "RunConfig",
    "RunFailedError",
    "UserError",
    "load_config",
    "problems_error",
]
