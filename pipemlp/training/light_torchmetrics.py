"""Import torchmetrics without scipy.signal, which it loads only to rename something in it for an older library.

That takes as long as torch itself, on every rank with metrics.
"""

import importlib
import sys
from types import ModuleType

_NOT_NEEDED = "scipy.signal"


def import_torchmetrics() -> None:
    """With something in the place of that module which has the name that torchmetrics looks for; then without."""
    if _NOT_NEEDED in sys.modules:
        return
    stand_in = ModuleType(_NOT_NEEDED)
    stand_in.hamming = None  # type: ignore[attr-defined]
    sys.modules[_NOT_NEEDED] = stand_in
    try:
        importlib.import_module("torchmetrics")
    finally:
        del sys.modules[_NOT_NEEDED]
