"""Start ranks once, run many test bodies on them: gloo over a FileStore, one process per rank.

A body is a function of an importable module, called as `body(*arguments)` on every rank of a world of the
wanted size. Its results come back in rank order; the first rank's exception is raised here, with its traceback.
"""

import multiprocessing
import os
import tempfile
import traceback
from collections.abc import Callable
from datetime import timedelta
from multiprocessing.connection import Connection, wait
from pathlib import Path

BODY_SECONDS = 120.0


class RankError(AssertionError):
    """A body failed on a rank; the message holds its traceback."""


class RankPool:
    """`world_size` processes that stay until `close`; `timeout_seconds` is how long one waits for another."""

    def __init__(self, world_size: int, timeout_seconds: float = BODY_SECONDS / 2) -> None:
        context = multiprocessing.get_context("forkserver")
        context.set_forkserver_preload(["ranks_preload"])
        _let_the_server_find(Path(__file__).parent)
        self._folder = tempfile.TemporaryDirectory()
        store = str(Path(self._folder.name) / "store")
        self._connections: list[Connection] = []
        self._processes = []
        for rank in range(world_size):
            here, there = context.Pipe()
            process = context.Process(
                target=_serve, args=(rank, world_size, store, there, timeout_seconds), daemon=True
            )
            process.start()
            there.close()
            self._connections.append(here)
            self._processes.append(process)
        self.alive = True

    def run(self, body: Callable, *arguments: object) -> list:
        """Run `body` on every rank and return the results."""
        for connection in self._connections:
            connection.send((body, arguments))
        results: dict[int, object] = {}
        while len(results) < len(self._connections):
            waiting = [c for rank, c in enumerate(self._connections) if rank not in results]
            ready = wait(waiting, timeout=BODY_SECONDS)
            if not ready:
                self.close()
                raise RankError(f"{body.__name__}: ranks did not answer in {BODY_SECONDS:.0f} s")
            for connection in ready:
                rank = self._connections.index(connection)
                try:
                    succeeded, value = connection.recv()
                except EOFError:
                    self.close()
                    raise RankError(f"{body.__name__}: rank {rank} ended") from None
                if not succeeded:
                    self.close()
                    raise RankError(f"{body.__name__} on rank {rank}:\n{value}")
                results[rank] = value
        return [results[rank] for rank in range(len(self._connections))]

    def close(self) -> None:
        """End the processes."""
        self.alive = False
        for process in self._processes:
            process.kill()
        for process in self._processes:
            process.join()
        for connection in self._connections:
            connection.close()
        self._folder.cleanup()


def _let_the_server_find(folder: Path) -> None:
    """The fork server does not know our sys.path, and ignores what it cannot import."""
    paths = os.environ.get("PYTHONPATH", "").split(os.pathsep)
    if str(folder) not in paths:
        os.environ["PYTHONPATH"] = os.pathsep.join([str(folder), *filter(None, paths)])


def _serve(rank: int, world_size: int, store: str, connection: Connection, timeout_seconds: float) -> None:
    # DeepSpeed reads this when a PipelineModule is made
    os.environ.update(LOCAL_RANK=str(rank), RANK=str(rank), WORLD_SIZE=str(world_size))
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    import torch
    import torch.distributed as dist

    torch.set_num_threads(1)
    dist.init_process_group(
        "gloo",
        store=dist.FileStore(store, world_size),
        rank=rank,
        world_size=world_size,
        timeout=timedelta(seconds=timeout_seconds),
    )
    _reuse_groups()
    while True:
        try:
            body, arguments = connection.recv()
        except EOFError:
            return
        try:
            connection.send((True, body(*arguments)))
        except BaseException:
            connection.send((False, traceback.format_exc()))


def _reuse_groups() -> None:
    """Each PipelineModule makes five groups; without reuse thirty of them exhaust the file descriptors."""
    import deepspeed
    from deepspeed.comm.torch import TorchBackend

    deepspeed.ops.__compatible_ops__["deepspeed_shm_comm"] = False
    deepspeed.init_distributed(dist_backend="gloo", auto_mpi_discovery=False, verbose=False)
    original = TorchBackend.new_group
    known: dict[tuple[int, ...], object] = {}

    def new_group(self: object, ranks: object) -> object:
        key = tuple(ranks)  # type: ignore[call-overload]
        if key not in known:
            known[key] = original(self, list(key))
        return known[key]

    TorchBackend.new_group = new_group
