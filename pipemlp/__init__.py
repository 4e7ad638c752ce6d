"""PipeMLP: pipeline- and model-parallel training of deep MLPs on DeepSpeed, from one config file.

Names are imported when they are first used, so that `import pipemlp` is fast and needs no torch.
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pipemlp.config import RunConfig, load_config
    from pipemlp.data import register_source
    from pipemlp.model.blocks import register_block
    from pipemlp.model.losses import register_loss
    from pipemlp.training.api import evaluate, load_model, predict, resume, train, validate
    from pipemlp.training.metrics import register_metric
    from pipemlp.training.planner import plan
    from pipemlp.training.run import Run, open_run
    from pipemlp.training.simulating import simulate

_HOMES = {
    "Run": "pipemlp.training.run",
    "RunConfig": "pipemlp.config",
    "evaluate": "pipemlp.training.api",
    "load_config": "pipemlp.config",
    "load_model": "pipemlp.training.api",
    "open_run": "pipemlp.training.run",
    "plan": "pipemlp.training.planner",
    "predict": "pipemlp.training.api",
    "register_block": "pipemlp.model.blocks",
    "register_loss": "pipemlp.model.losses",
    "register_metric": "pipemlp.training.metrics",
    "register_source": "pipemlp.data",
    "resume": "pipemlp.training.api",
    "simulate": "pipemlp.training.simulating",
    "train": "pipemlp.training.api",
    "validate": "pipemlp.training.api",
}

__all__ = [
    "Run",
    "RunConfig",
    "evaluate",
    "load_config",
    "load_model",
    "open_run",
    "plan",
    "predict",
    "register_block",
    "register_loss",
    "register_metric",
    "register_source",
    "resume",
    "simulate",
    "train",
    "validate",
]


def __getattr__(name: str) -> object:
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module 'pipemlp' has no attribute {name!r}")
    return getattr(import_module(home), name)
