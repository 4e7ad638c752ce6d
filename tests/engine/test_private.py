"""DeepSpeed's doors that we go through are where they were; an upgrade that moves one fails here first."""

import inspect
import subprocess
import sys

from deepspeed.pipe import PipelineModule
from deepspeed.runtime.pipe.engine import PipelineEngine
from torch.distributed import distributed_c10d


def test_a_module_cuts_and_builds_where_we_replace_it():
    source = inspect.getsource(PipelineModule.__init__)
    assert source.index("self._partition_layers(") < source.index("self._build()")
    assert "self._set_bounds(" in inspect.getsource(PipelineModule._partition_layers)


def test_the_loss_is_shared_where_we_leave_it_out():
    assert "self.agg_train_loss = self._aggregate_total_loss()" in inspect.getsource(PipelineEngine.train_batch)


def test_outputs_of_an_evaluation_come_back_for_every_micro_batch():
    parameters = inspect.signature(PipelineEngine.eval_batch).parameters
    assert {"compute_loss", "reduce_output"} <= set(parameters)


def test_every_group_can_be_given_a_timeout():
    assert callable(distributed_c10d._set_pg_timeout) and hasattr(distributed_c10d._world, "pg_map")


def test_building_an_engine_loads_no_compiler():
    code = (
        "import sys; from pipemlp.engine.private.light_import import import_late_module; import_late_module(); "
        "import deepspeed.runtime.zero.utils; sys.exit('torch._inductor.compile_fx' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, timeout=120).returncode == 0
