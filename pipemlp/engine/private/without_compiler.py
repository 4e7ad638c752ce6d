"""Training without torch's compiler, which nothing here uses and which takes as long to load as the rest of torch.

DeepSpeed imports it with a module of functions that are to be compiled; torch's optimizers do in decorators around
their methods, which tell the compiler what not to look at.
"""

import importlib
import inspect
from typing import TypeVar

import torch
from torch.optim import Optimizer

Kind = TypeVar("Kind", bound=Optimizer)

LATE_MODULE = "deepspeed.runtime.zero.muon.muon_optimizer"
"""Imported when an engine is built; its functions, which we never call, are decorated with torch.compile."""
DECORATED = ("add_param_group", "state_dict", "load_state_dict", "zero_grad")
"""Of an optimizer's methods, besides `step`."""


def import_late_module() -> None:
    """Import it with functions that stay as they are written."""
    compile_ = torch.compile
    torch.compile = lambda function: function
    try:
        importlib.import_module(LATE_MODULE)
    finally:
        torch.compile = compile_


def without_compiler(kind: type[Kind]) -> type[Kind]:
    """The same optimizer, with the methods that are inside the decorators; a step builds no graph, as before."""
    methods = {name: inspect.unwrap(getattr(kind, name)) for name in DECORATED}
    return type(kind.__name__, (kind,), methods | {"step": torch.no_grad()(inspect.unwrap(kind.step))})
