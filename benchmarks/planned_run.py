"""Plans that are run: in processes that are there already, profile a configuration, then train by several plans of it.

All that a run of `pipemlp train --plan` has is there: the loader with its thread, the trainer, the check at the end.
"""

import gc
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch
import torch.distributed as dist

from pipemlp.config.loading import load_config
from pipemlp.config.root import RunConfig
from pipemlp.planning.making import Known, lay_out
from pipemlp.planning.plan import Plan
from pipemlp.planning.plan_file import plan_file_of
from pipemlp.planning.profile import Profile
from pipemlp.planning.workload import Setting, workload_of
from pipemlp.profiling.together import Together
from pipemlp.training.batches import BatchLoader
from pipemlp.training.building import weighted_loss
from pipemlp.training.memory_watch import resting_bytes
from pipemlp.training.planning import PlanningInputs, planning_inputs
from pipemlp.training.prediction_check import PredictionCheck, PredictionReport, RankReport
from pipemlp.training.preparation import prepare_run
from pipemlp.training.profile_measuring import Subject, measure_profile
from pipemlp.training.timeline import TimelineRecorder
from pipemlp.training.trainer import Trainer
from pipemlp.training.watchers import SilentWatcher
from pipemlp.training.worker import build_pipeline

CPU = torch.device("cpu")


@dataclass(frozen=True)
class Planned:
    """One plan and what came of it."""

    setting: Setting
    plan: Plan
    report: PredictionReport


def profiled(config_file: Path, seconds: float) -> tuple[RunConfig, PlanningInputs, Profile]:
    """Run on every rank: the configuration and its profile."""
    config = load_config(config_file)
    inputs = planning_inputs(config)
    subject = Subject(inputs.config, inputs.layers, weighted_loss(inputs.config), inputs.shape.task)
    return config, inputs, measure_profile(subject, Together(CPU), seconds, lambda text, fraction: None)


def run_settings(
    config_file: Path, settings: Sequence[Setting], num_rounds: int, num_steps: int, profile_seconds: float
) -> list[list[Planned]]:
    """Run on every rank, in rounds: profile, then train by every setting; the same result on every rank.

    Settings keep the cut that the first round's profile gave them. Profile and runs alternate, as competitors do in
    the other benchmarks: a machine that others use too is faster in one minute than in the next.
    """
    rounds: list[list[Planned]] = []
    for _ in range(num_rounds):
        config, inputs, profile = profiled(config_file, profile_seconds)
        rounds.append([run_setting(config, inputs, profile, setting, num_steps) for setting in settings])
        settings = [replace(each.setting, partition=each.plan.boundaries) for each in rounds[0]]
    return [list(each) for each in zip(*rounds, strict=True)]


def run_setting(
    config: RunConfig, inputs: PlanningInputs, profile: Profile, setting: Setting, num_steps: int
) -> Planned:
    """Run on every rank: train by one setting."""
    plan = lay_out(workload_of(inputs.config, inputs.layers), setting, Known(source=profile))
    planned = plan_file_of(inputs.config, inputs.layers, plan, profile.machine)
    gc.collect()
    found_bytes = resting_bytes()  # of what ran before in this process
    steps = config.training.model_copy(update={"steps": num_steps, "epochs": None})
    preparation = prepare_run(config.model_copy(update={"training": steps}), planned=planned)
    pipeline = build_pipeline(preparation)
    loader = BatchLoader(preparation.data, preparation.plan, pipeline.place, seed=config.run.seed, device=CPU)
    check = PredictionCheck(pipeline, CPU, 0)
    recorder = TimelineRecorder(Path(), pipeline, 0)
    Trainer(preparation, pipeline, loader, CPU, SilentWatcher(), recorder, check).run()
    report = check.report()
    everyone: list[int] = [0] * dist.get_world_size()
    dist.all_gather_object(everyone, found_bytes)
    ranks = tuple(_less(rank, before) for rank, before in zip(report.ranks, everyone, strict=True))
    return Planned(setting, replace(preparation.plan, costs=plan.costs), replace(report, ranks=ranks))


def _less(rank: RankReport, before: int) -> RankReport:
    """Without what the process held already."""
    peak = rank.measured_peak_bytes
    return rank if peak is None else replace(rank, measured_peak_bytes=peak - before)
