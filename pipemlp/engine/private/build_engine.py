"""DeepSpeed's PipelineEngine without its schedules: it owns the optimizer, its shards and its precision."""

from typing import Any

import deepspeed

# The engine's destructor imports these. The collector may run it in the middle of another import, and a second lock on
# the import system breaks the first (CPython gh-106176, seen with Python 3.11): imported before, they take no lock.
import deepspeed.module_inject.auto_ep_comm
import deepspeed.runtime.python_gc
import deepspeed.utils.pin_memory
import torch
from deepspeed.runtime.config import DeepSpeedConfig
from deepspeed.runtime.pipe.engine import PipelineEngine

from pipemlp.engine.private.stage_module import StageModule


def build_engine(module: StageModule, optimizer: torch.optim.Optimizer, config: dict[str, Any]) -> PipelineEngine:
    """What `deepspeed.initialize` builds for a pipeline, which would choose the class by itself."""
    settings = DeepSpeedConfig(config, module.mpu())
    deepspeed.set_optimizer_flags(settings, module)
    return PipelineEngine(
        args=None,
        model=module,
        optimizer=optimizer,
        mpu=module.mpu(),
        dist_init_required=False,
        config=config,
        config_class=settings,
    )


def take_step(engine: PipelineEngine) -> bool:
    """Clip, let the optimizer take its step, and clear the gradients; False, on all ranks, if DeepSpeed has left it
    out because the norm over all of them is not finite."""
    engine._exec_optimizer_step()
    return not getattr(engine.optimizer, "overflow", False)
