"""Start the ranks of one case in fresh processes over gloo, and bring back what rank 0 found."""

import multiprocessing
import os
import traceback
from multiprocessing.connection import Connection, wait
from pathlib import Path

from cases import Case, Rounds

TIMEOUT_SECONDS = 1800.0


def run_case(case: Case, folder: Path, num_rounds: int, num_steps: int) -> Rounds:
    """Measure `case` in its own processes.

    Raises:
        RuntimeError: with the traceback of the first rank that failed.
    """
    from pipemlp.launching.ports import free_port

    context = multiprocessing.get_context("spawn")
    port, connections, processes = free_port(), [], []
    for rank in range(case.num_ranks):
        here, there = context.Pipe()
        arguments = (rank, port, there, case, folder, num_rounds, max(2, round(num_steps * case.steps_share)))
        process = context.Process(target=_rank, args=arguments, daemon=True)
        process.start()
        there.close()
        connections.append(here)
        processes.append(process)
    try:
        return _first_result(case, connections)
    finally:
        for process in processes:
            process.kill()
            process.join()


def _first_result(case: Case, connections: list[Connection]) -> Rounds:
    """Rank 0's result once every rank is done."""
    results: dict[int, Rounds] = {}
    while len(results) < len(connections):
        ready = wait([c for rank, c in enumerate(connections) if rank not in results], timeout=TIMEOUT_SECONDS)
        if not ready:
            raise RuntimeError(f"{case.name}: no answer in {TIMEOUT_SECONDS:.0f} s")
        for connection in ready:
            rank = connections.index(connection)  # type: ignore[arg-type]
            try:
                succeeded, value = connection.recv()  # type: ignore[union-attr]
            except EOFError:
                raise RuntimeError(f"{case.name}: rank {rank} ended") from None
            if not succeeded:
                raise RuntimeError(f"{case.name}, rank {rank}:\n{value}")
            results[rank] = value
    return results[0]


def _rank(
    rank: int, port: int, connection: Connection, case: Case, folder: Path, num_rounds: int, num_steps: int
) -> None:
    """One process; what DeepSpeed prints goes to a log."""
    log = os.open(folder / f"rank-{rank}.log", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(log, 1)
    os.dup2(log, 2)
    os.environ.update(
        DS_ACCELERATOR="cpu",
        RANK=str(rank),
        LOCAL_RANK=str(rank),
        WORLD_SIZE=str(case.num_ranks),
        LOCAL_WORLD_SIZE=str(case.num_ranks),
        MASTER_ADDR="127.0.0.1",
        MASTER_PORT=str(port),
    )
    try:
        from rounds import measure

        from pipemlp.engine.processes import join_processes, leave_processes

        join_processes("cpu", rank, timeout_seconds=600)
        result = measure(case, folder, num_rounds, num_steps)
        leave_processes()
        connection.send((True, result))
    except BaseException:
        connection.send((False, traceback.format_exc()))
