"""Start replicas in fresh processes, over loopback or behind slow links, and bring back what rank 0 returns."""

import multiprocessing
import os
import traceback
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from slow_links import SlowLinks
from start_ranks import JOIN_SECONDS, _first_result, _reuse_groups

PORT = 29555
"""Of the store behind slow links, where nobody else is."""


def run_replicas(
    body: str, arguments: tuple[object, ...], num_replicas: int, folder: Path, links: SlowLinks | None = None
) -> Any:
    """Call `body` (written `module:function`) on every rank, in joined processes of one thread; logs go to `folder`.

    Raises:
        RuntimeError: with the traceback of the first rank that failed.
    """
    from pipemlp.launching.ports import free_port

    context = multiprocessing.get_context("spawn")
    port, connections, processes = PORT if links else free_port(), [], []
    for rank in range(num_replicas):
        here, there = context.Pipe()
        target = (rank, num_replicas, port, there, folder, body, arguments, links)
        process = context.Process(target=_rank, args=target, daemon=True)
        process.start()
        there.close()
        connections.append(here)
        processes.append(process)
    try:
        return _first_result(body, connections)
    finally:
        for process in processes:
            process.kill()
            process.join()


def _rank(
    rank: int,
    num_ranks: int,
    port: int,
    connection: Connection,
    folder: Path,
    body: str,
    arguments: tuple[object, ...],
    links: SlowLinks | None,
) -> None:
    """One process; what libraries print goes to a log."""
    log = os.open(folder / f"rank-{rank}.log", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(log, 1)
    os.dup2(log, 2)
    os.environ.update(
        DS_ACCELERATOR="cpu",
        RANK=str(rank),
        LOCAL_RANK=str(rank),
        WORLD_SIZE=str(num_ranks),
        LOCAL_WORLD_SIZE=str(num_ranks),
        MASTER_ADDR="127.0.0.1",
        MASTER_PORT=str(port),
    )
    try:
        if links is not None:
            links.enter(rank)
        import importlib

        import torch

        from pipemlp.engine.processes import join_processes, leave_processes

        torch.set_num_threads(1)
        join_processes("cpu", rank, timeout_seconds=JOIN_SECONDS)
        _reuse_groups()
        module, function = body.split(":")
        result = getattr(importlib.import_module(module), function)(*arguments)
        leave_processes()
        connection.send((True, result))
    except BaseException:
        connection.send((False, traceback.format_exc()))
