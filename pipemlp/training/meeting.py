"""Where the ranks of one machine meet: at its loopback address, which nobody outside can reach."""

import os
import socket
from datetime import timedelta

import torch.distributed as dist

from pipemlp.launching.environment import WorkerEnvironment
from pipemlp.launching.ports import listen_on_loopback


def loopback_store(environment: WorkerEnvironment, timeout_seconds: float) -> dist.Store | None:
    """The store at which they meet, served by rank 0; None where several hosts, or torchrun's agent, have another.

    Connections between the ranks then stay on the loopback interface too, unless GLOO_SOCKET_IFNAME or
    NCCL_SOCKET_IFNAME say otherwise. PyTorch by itself listens on all of a host's addresses.

    Raises:
        ClusterError: if the port is taken.
    """
    if not environment.is_on_loopback:
        return None
    names = [name for _, name in socket.if_nameindex() if name in ("lo", "lo0")]
    for variable in ("GLOO_SOCKET_IFNAME", "NCCL_SOCKET_IFNAME"):
        if names:
            os.environ.setdefault(variable, names[0])
    is_first = environment.rank == 0
    return dist.TCPStore(
        "127.0.0.1",
        environment.master_port,
        environment.world_size,
        is_first,
        timedelta(seconds=timeout_seconds),
        wait_for_workers=False,
        master_listen_fd=listen_on_loopback(environment.master_port).detach() if is_first else None,
    )
