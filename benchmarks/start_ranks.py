"""Start ranks in fresh processes, over loopback or behind slow links, and bring back what rank 0 returns."""

import importlib
import multiprocessing
import os
import traceback
from collections.abc import Iterable
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Any

from slow_links import SlowLinks

TIMEOUT_SECONDS = 1800.0
JOIN_SECONDS = 300
PORT = 29555
"""Of the store behind slow links, where nobody else is."""


def run_ranks(
    body: str, arguments: tuple[object, ...], num_ranks: int, folder: Path, links: SlowLinks | None = None
) -> Any:
    """Call `body` (written `module:function`) on every rank, in joined processes of one thread; logs go to `folder`.

    Raises:
        RuntimeError: with the traceback of the first rank that failed.
    """
    from pipemlp.launching.ports import free_port

    context = multiprocessing.get_context("spawn")
    port, connections, processes = PORT if links else free_port(), [], []
    for rank in range(num_ranks):
        here, there = context.Pipe()
        target = (rank, num_ranks, port, there, folder, body, arguments, links)
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


def _first_result(name: str, connections: list[Connection]) -> Any:
    """Rank 0's result once every rank is done."""
    results: dict[int, Any] = {}
    while len(results) < len(connections):
        ready = wait([c for rank, c in enumerate(connections) if rank not in results], timeout=TIMEOUT_SECONDS)
        if not ready:
            raise RuntimeError(f"{name}: no answer in {TIMEOUT_SECONDS:.0f} s")
        for connection in ready:
            rank = connections.index(connection)  # type: ignore[arg-type]
            try:
                succeeded, value = connection.recv()  # type: ignore
            except EOFError:
                raise RuntimeError(f"{name}: rank {rank} ended") from None
            if not succeeded:
                raise RuntimeError(f"{name}, rank {rank}:\n{value}")
            results[rank] = value
    return results[0]


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
    """One process; what DeepSpeed prints goes to a log."""
    log = os.open(folder / f"rank-{rank}.log", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(log, 1)
    os.dup2(log, 2)
    os.environ.update(
        DS_ACCELERATOR=os.environ.get("DS_ACCELERATOR", "cpu"),
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
        import torch

        from pipemlp.engine.processes import join_processes, leave_processes

        torch.set_num_threads(1)
        cuda = os.environ["DS_ACCELERATOR"] == "cuda"
        join_processes("cuda" if cuda else "cpu", rank, timeout_seconds=JOIN_SECONDS)
        _reuse_groups()
        module, function = body.split(":")
        result = getattr(importlib.import_module(module), function)(*arguments)
        leave_processes()
        connection.send((True, result))
    except BaseException:
        connection.send((False, traceback.format_exc()))


def _reuse_groups() -> None:
    """Every DeepSpeed pipeline makes five groups of 15 threads in all; a dozen pipelines share one set instead."""
    from deepspeed.comm.torch import TorchBackend

    original = TorchBackend.new_group
    known: dict[tuple[int, ...], object] = {}

    def new_group(self: object, ranks: Iterable[int]) -> object:
        key = tuple(ranks)
        if key not in known:
            known[key] = original(self, list(key))
        return known[key]

    TorchBackend.new_group = new_group
