"""Join the processes of a run, and leave them in order."""

import os
from datetime import timedelta

import torch
import torch.distributed as dist

from pipemlp.engine.private.without_compiler import import_late_module


def join_processes(device: str, local_rank: int, timeout_seconds: float, store: dist.Store | None = None) -> None:
    """Start the process group: gloo on CPU, NCCL on GPUs.

    Args:
        device: `cpu` or `cuda`.
        local_rank: the GPU.
        timeout_seconds: how long a rank waits for another.
        store: where the ranks meet; left out, MASTER_ADDR and MASTER_PORT say it.

    Nothing is compiled: on CPU DeepSpeed would build a small C++ op here, which takes a minute, needs a
    compiler, and hangs for ever after an interrupted build. Training never uses it.
    """
    import deepspeed
    from deepspeed import ops

    ops.__compatible_ops__["deepspeed_shm_comm"] = False
    import_late_module()
    backend, timeout = "nccl" if device == "cuda" else "gloo", timedelta(seconds=timeout_seconds)
    if device == "cuda":
        torch.cuda.set_device(local_rank)
    if store is not None:
        rank, world_size = (int(os.environ[name]) for name in ("RANK", "WORLD_SIZE"))
        dist.init_process_group(backend, store=store, rank=rank, world_size=world_size, timeout=timeout)
    deepspeed.init_distributed(dist_backend=backend, auto_mpi_discovery=False, verbose=False, timeout=timeout)


def leave_processes() -> None:
    """Meet all ranks once more, then end the process group; without it some runs end non-zero."""
    if dist.is_initialized():
        dist.barrier()
        dist.destroy_process_group()
