"""One rank of a profile: it meets the others, measures with them, and on rank 0 writes the file."""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path

from pipemlp.config.loading import load_config
from pipemlp.config.root import RunConfig
from pipemlp.launching.devices import num_cores
from pipemlp.launching.environment import WorkerEnvironment
from pipemlp.launching.status import write_status
from pipemlp.planning.facts import workload_facts
from pipemlp.planning.profile import Profile
from pipemlp.profiling.profile_file import write_profile
from pipemlp.training.life import Life, begin_life, choose_device
from pipemlp.training.planning import PlanningInputs, planning_inputs
from pipemlp.training.profile_report import ProfileDisplay, check_spread
from pipemlp.training.work import check_own_port


def profile_work(
    config_path: Path, overrides: Sequence[str], environment: WorkerEnvironment, output: Path, seconds: float
) -> None:
    """Be one rank of a profile; ends the process."""
    life = begin_life(environment)

    def prepare() -> PlanningInputs:
        if environment.rank == 0:
            check_own_port(environment)
        return planning_inputs(load_config(config_path, overrides))

    inputs = life.prepared(prepare)
    with life.failing():
        _measure(inputs, environment, life, output, seconds)
    os._exit(0)


def _measure(inputs: PlanningInputs, environment: WorkerEnvironment, life: Life, output: Path, seconds: float) -> None:
    config = inputs.config
    device_type = choose_device(config)
    import torch

    from pipemlp.engine.processes import join_processes, leave_processes
    from pipemlp.profiling.together import Together
    from pipemlp.training.building import weighted_loss
    from pipemlp.training.meeting import loopback_store
    from pipemlp.training.profile_measuring import Subject, measure_profile

    device = torch.device("cuda", environment.local_rank) if device_type == "cuda" else torch.device("cpu")
    store = loopback_store(environment, config.fault.timeout_seconds)
    join_processes(device_type, environment.local_rank, config.fault.timeout_seconds, store)
    torch.set_num_threads(num_threads(config, environment))
    display = ProfileDisplay(life.terminal.file) if environment.rank == 0 else None
    profile = measure_profile(
        Subject(config, inputs.layers, weighted_loss(config), inputs.shape.task),
        Together(device),
        seconds,
        (lambda text, fraction: None) if display is None else display.progress,
        facts=tuple(_facts(inputs, device, environment).items()),
    )
    leave_processes()
    if display is not None:
        _finish(profile, inputs, output, display, life)


def num_threads(config: RunConfig, environment: WorkerEnvironment) -> int:
    """Of this process: as a run would have."""
    threads = config.run.threads
    return max(1, num_cores() // environment.local_world_size) if threads == "auto" else threads


def _facts(inputs: PlanningInputs, device: object, environment: WorkerEnvironment) -> Mapping[str, str]:
    import torch

    from pipemlp.profiling.device import device_name
    from pipemlp.training.versions import version_facts

    assert isinstance(device, torch.device)
    own = {"device": device_name(device), "ranks": str(environment.world_size)}
    if device.type == "cpu":
        own["threads"] = str(num_threads(inputs.config, environment))
    return own | version_facts() | workload_facts(inputs.config, inputs.layers)


def _finish(profile: Profile, inputs: PlanningInputs, output: Path, display: ProfileDisplay, life: Life) -> None:
    display.close()
    check_spread(profile)
    write_profile(output, profile)
    display.report(profile, inputs.layers, output)
    if life.run_dir is not None:
        write_status(life.run_dir, "finished")
