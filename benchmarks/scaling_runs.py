"""One model on one number of ranks: profile it there, choose for each grid by prediction, and train by the choice."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from planned_run import Planned, profiled, run_setting

from pipemlp.planning.making import Known, lay_out
from pipemlp.planning.profile import Profile
from pipemlp.planning.workload import Setting, Workload, workload_of

SCHEDULES = {"1f1b": 1, "zb-h1": 1, "zb-h2": 1, "zb-v": 2}
"""To choose from for a pipeline, with their virtual stages per stage."""
PIPELINE_MICRO_BATCHES = (4, 8, 16, 32)
WHOLE_MICRO_BATCHES = (1, 2, 4)
"""Of a replica's batch, where a replica is one rank."""
LEAST_SIZES = 2
"""Of micro-batches in a profile: one alone does not say what other sizes take."""


def candidates(num_stages: int, num_replicas: int, workload: Workload) -> Iterator[Setting]:
    """What to choose from for a grid."""
    grid = Setting(num_stages=num_stages, num_replicas=num_replicas)
    replica_rows = workload.global_batch_rows // num_replicas
    if num_stages == 1:
        for count in WHOLE_MICRO_BATCHES:
            yield replace(grid, num_micro_batches=count)
        return
    for schedule, num_virtual in SCHEDULES.items():
        if num_stages * num_virtual > workload.num_trained_layers:
            continue
        for count in PIPELINE_MICRO_BATCHES:
            if num_stages <= count <= replica_rows and replica_rows % count == 0:
                yield replace(grid, num_virtual_stages=num_virtual, num_micro_batches=count, schedule=schedule)


def measure_grids(
    config_file: Path, grids: Sequence[tuple[int, int]], typical_sleep: float, num_steps: int, profile_seconds: float
) -> list[Planned]:
    """Run on every rank of grids that have as many; the same result on every rank.

    Args:
        config_file: of the model.
        grids: stages and replicas, to run one after the other.
        typical_sleep: of emulated layers, to calibrate; 0 for layers that compute.
        num_steps: of each run.
        profile_seconds: to spend on the profile, roughly.

    Raises:
        RuntimeError: if they are too few.
    """
    if typical_sleep:
        from emulated_parts import calibrate_parts

        calibrate_parts(typical_sleep)
    config, inputs, profile = profiled(config_file, profile_seconds)
    if len(profile.rows) < LEAST_SIZES:
        raise RuntimeError(f"{profile_seconds:.0f} s were enough for {len(profile.rows)} size of micro-batches only")
    workload = workload_of(inputs.config, inputs.layers)
    chosen = [_fastest(workload, *grid, profile) for grid in grids]
    return [run_setting(config, inputs, profile, setting, num_steps) for setting in chosen]


def _fastest(workload: Workload, num_stages: int, num_replicas: int, profile: Profile) -> Setting:
    """By prediction."""

    def seconds(setting: Setting) -> float:
        prediction = lay_out(workload, setting, Known(source=profile)).prediction
        assert prediction is not None
        return prediction.step_seconds

    return min(candidates(num_stages, num_replicas, workload), key=seconds)
