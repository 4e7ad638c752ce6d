"""How many processes a run needs, against how many there are and how many devices they can have."""

from pathlib import Path

from pipemlp.config.errors import ClusterError


def check_world_size(world_size: int, stages: int, data_parallel: int, plan_path: Path | None = None) -> None:
    """Refuse another number of processes than there are to be.

    Args:
        world_size: processes that were started.
        stages, data_parallel: of the section `parallel`.
        plan_path: of the plan that has the section; else the configuration has it.

    Raises:
        ClusterError: with what would do.
    """
    needed = stages * data_parallel
    if world_size == needed:
        return
    remedies = [f"start {needed}"]
    if plan_path is not None:
        remedies.append(f"plan again with --ranks {world_size}")
    else:
        if world_size % stages == 0:
            remedies.append(f"set parallel.data_parallel={world_size // stages}")
        if world_size % data_parallel == 0:
            remedies.append(f"set parallel.stages={world_size // data_parallel}")
    where = "" if plan_path is None else f"--plan: {plan_path}: "
    raise ClusterError(
        f"{where}parallel.stages {stages} x parallel.data_parallel {data_parallel} = {_processes(needed)}, but "
        f"{world_size} {'was' if world_size == 1 else 'were'} started; {', or '.join(remedies)}"
    )


def check_processes(num_processes: int, num_devices: int, device: str) -> None:
    """Raise ClusterError when this machine has fewer GPUs than processes; on `cpu` any number passes."""
    if device == "cpu" or num_processes <= num_devices:
        return
    gpus = "1 GPU" if num_devices == 1 else f"{num_devices} GPUs"
    raise ClusterError(
        f"{_processes(num_processes)} on a machine with {gpus}: each process needs its own; lower parallel.stages or "
        f"parallel.data_parallel to a product of at most {num_devices}, use more machines, or set run.device=cpu"
        if num_devices
        else f"run.device is {device}, but this machine has no GPU; set run.device=cpu or auto"
    )


def _processes(count: int) -> str:
    return "1 process" if count == 1 else f"{count} processes"
