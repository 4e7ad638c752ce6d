"""DeepSpeed's doors that we go through are where they were; an upgrade that moves one fails here first."""

import inspect
import os
import subprocess
import sys
from pathlib import Path

import deepspeed
import pytest
import torch
from deepspeed.pipe import PipelineModule
from deepspeed.runtime.bf16_optimizer import BF16_Optimizer
from deepspeed.runtime.config import DeepSpeedConfig
from deepspeed.runtime.engine import DeepSpeedEngine
from deepspeed.runtime.pipe.engine import PipelineEngine
from deepspeed.runtime.zero.stage_1_and_2 import DeepSpeedZeroOptimizer
from executor_bodies import loaded_by_destruction
from ranks import RankPool
from torch.autograd.graph import get_gradient_edge
from torch.distributed import distributed_c10d

from pipemlp.engine.private.run_backward import run_backward
from pipemlp.engine.private.without_compiler import without_compiler


def test_a_module_cuts_and_builds_where_we_replace_it():
    source = inspect.getsource(PipelineModule.__init__)
    assert source.index("self._partition_layers(") < source.index("self._build()")
    assert "self._set_bounds(" in inspect.getsource(PipelineModule._partition_layers)
    assert list(inspect.signature(PipelineModule._partition_layers).parameters) == ["self", "method"]


def test_an_engine_is_built_as_initialize_builds_it():
    source = inspect.getsource(deepspeed.initialize)
    config = source.index("DeepSpeedConfig(config, mpu)")
    assert config < source.index("set_optimizer_flags(config_class, model)", config)
    wanted = {"args", "model", "optimizer", "mpu", "dist_init_required", "config", "config_class"}
    assert wanted <= set(inspect.signature(DeepSpeedEngine.__init__).parameters)
    assert list(inspect.signature(DeepSpeedConfig.__init__).parameters)[1:3] == ["config", "mpu"]


def test_a_step_is_taken_without_a_reduction():
    source = inspect.getsource(PipelineEngine._exec_optimizer_step)
    assert "self._force_grad_boundary = True" in source and "self._take_model_step(lr_kwargs)" in source
    assert "reduce_grads" not in source


def test_zero_1_finds_its_shard_where_we_put_it():
    """What a reduction leaves behind, and the step takes."""
    source = inspect.getsource(DeepSpeedZeroOptimizer)
    assert "self.averaged_gradients[i] = self.get_flat_partition(self.params_in_partition[i]," in source
    names = ["first_offset", "partition_size", "dtype", "device", "param_group_idx", "return_tensor_list"]
    parameters = inspect.signature(DeepSpeedZeroOptimizer.get_flat_partition).parameters
    assert list(parameters) == ["self", "tensor_list", *names]
    assert list(inspect.signature(DeepSpeedZeroOptimizer.get_all_grad_tensors).parameters) == [
        "self",
        "tensor_list",
        "dtype",
    ]
    assert "self.averaged_gradients[i]" in inspect.getsource(DeepSpeedZeroOptimizer.step)
    for name in ("bit16_groups", "first_offset", "partition_size", "gradient_accumulation_dtype"):
        assert f"self.{name}" in source


def test_bf16_sums_up_where_we_do():
    source = inspect.getsource(BF16_Optimizer)
    assert "self.fp32_groups_has_gradients[group_idx][param_idx] = True" in source
    assert "self.fp32_groups_gradients_flat.append(" in source
    assert "self.bf16_groups.append(trainable_parameters)" in source


def test_every_group_can_be_given_a_timeout():
    assert callable(distributed_c10d._set_pg_timeout) and hasattr(distributed_c10d._world, "pg_map")


OPTIMIZERS = (torch.optim.SGD, torch.optim.Adam, torch.optim.AdamW)


def some_steps(kind: type[torch.optim.Optimizer]) -> list[torch.Tensor]:
    """What an optimizer makes of a weight, and keeps, over steps with a copy of it in between."""
    weight = torch.nn.Parameter(torch.linspace(-1.0, 1.0, 6, dtype=torch.float64))
    optimizer = kind([weight], lr=0.1, weight_decay=0.01)
    for step in range(4):
        weight.grad = torch.sin(torch.arange(6.0, dtype=torch.float64) + step)
        optimizer.step()
        optimizer.zero_grad()
        saved = optimizer.state_dict()
        optimizer = kind([weight], lr=0.1, weight_decay=0.01)
        optimizer.load_state_dict(saved)
    assert weight.grad is None and not weight.grad_fn
    return [weight.detach(), *optimizer.state[weight].values()]


@pytest.mark.parametrize("kind", OPTIMIZERS)
def test_an_optimizer_without_compiler_is_the_same(kind):
    some_steps(kind)  # after a first use torch wraps the steps of a class once more
    ours, plain = some_steps(without_compiler(kind)), some_steps(kind)
    assert len(ours) == len(plain) and all(map(torch.equal, ours, plain))


def test_engines_and_optimizers_load_no_compiler():
    code = (
        "import sys, test_private, torch; "
        "from pipemlp.engine.private.without_compiler import import_late_module, without_compiler; "
        "import_late_module(); import deepspeed.runtime.zero.utils; "
        "[test_private.some_steps(without_compiler(kind)) for kind in test_private.OPTIMIZERS]; "
        "sys.exit('torch._dynamo' in sys.modules)"
    )
    here = Path(__file__).parent
    path = os.pathsep.join([str(here), str(here.parent)])
    found = subprocess.run(
        [sys.executable, "-c", code], env=os.environ | {"PYTHONPATH": path}, capture_output=True, timeout=120, text=True
    )
    assert found.returncode == 0, found.stderr


@pytest.mark.parametrize(("zero_stage", "precision"), [(0, "fp32"), (1, "fp32"), (1, "bf16")])
def test_the_destructor_of_an_engine_imports_nothing(zero_stage, precision):
    """In the middle of another import that would break it."""
    pool = RankPool(1)  # a process that has never destroyed one
    try:
        assert pool.run(loaded_by_destruction, zero_stage, precision) == [[]]
    finally:
        pool.close()


def test_a_backward_is_that_of_torch():
    found = []
    for backward in (torch.autograd.backward, run_backward):
        x = torch.arange(4.0, requires_grad=True)
        y = (x * x).sin()
        backward(get_gradient_edge(y), torch.full((4,), 2.0))
        found.append(x.grad)
    assert torch.equal(*found)
