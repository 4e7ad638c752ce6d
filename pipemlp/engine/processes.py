"""Join the processes of a run, and leave them in order."""

from datetime import timedelta

import torch
import torch.distributed as dist

from pipemlp.engine.private.light_import import import_late_module


def join_processes(device: str, local_rank: int, timeout_seconds: float) -> None:
    """Start the process group: gloo on CPU, NCCL on GPUs.

    Nothing is compiled: on CPU DeepSpeed would build a small C++ op here, which takes a minute, needs a
    compiler, and hangs for ever after an interrupted build. Training never uses it.
    """
    import deepspeed
    from deepspeed import ops

    ops.__compatible_ops__["deepspeed_shm_comm"] = False
    import_late_module()
    if device == "cuda":
        torch.cuda.set_device(local_rank)
    deepspeed.init_distributed(
        dist_backend="nccl" if device == "cuda" else "gloo",
        auto_mpi_discovery=False,
        verbose=False,
        timeout=timedelta(seconds=timeout_seconds),
    )


def leave_processes() -> None:
    """Meet all ranks once more, then end the process group; without it some runs end non-zero."""
    if dist.is_initialized():
        dist.barrier()
        dist.destroy_process_group()
