"""What is decided before a run needs no torch and no DeepSpeed."""

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
CODE = """
import importlib, importlib.abc, pkgutil, sys
from pathlib import Path

BLOCKED = {"torch", "deepspeed", "torchmetrics"}

class Refuse(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in BLOCKED:
            raise AssertionError(f"{name} is imported")

sys.meta_path.insert(0, Refuse())
for name in ("schedule", "planning", "data", "launching", "config"):
    package = importlib.import_module(f"pipemlp.{name}")
    for module in pkgutil.walk_packages(package.__path__, package.__name__ + "."):
        importlib.import_module(module.name)

from pipemlp.config.loading import load_config
from pipemlp.training.preparation import prepare_run

preparation = prepare_run(load_config(sys.argv[1]))
assert preparation.plan.num_stages == 2 and len(preparation.layers) == 18
assert not BLOCKED & set(sys.modules)
print("prepared", preparation.data.shape.task, preparation.budget.num_steps)
"""


def test_a_run_is_prepared_without_torch(tmp_path):
    result = subprocess.run(
        [sys.executable, "-c", CODE, str(ROOT / "configs" / "digits.yaml")],
        env=os.environ | {"XDG_CACHE_HOME": str(tmp_path)},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert (result.returncode, result.stderr) == (0, "")
    assert result.stdout == "prepared classification 400\n"
