"""Import what DeepSpeed imports late, without the compiler that it would load on the way."""

import importlib
import os

LATE_MODULE = "deepspeed.runtime.zero.muon.muon_optimizer"
"""Imported when an engine is built; its functions, which we never call, are decorated with torch.compile."""
_SWITCH = "TORCHDYNAMO_DISABLE"


def import_late_module() -> None:
    """Spend a second less per rank at the start: nothing is ever compiled here."""
    before = os.environ.get(_SWITCH)
    os.environ[_SWITCH] = "1"
    try:
        importlib.import_module(LATE_MODULE)
    finally:
        if before is None:
            del os.environ[_SWITCH]
        else:
            os.environ[_SWITCH] = before
