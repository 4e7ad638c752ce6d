"""One process of a run, from joining the others to the trained model on disk."""

import json
import platform
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TextIO

import torch
import torch.distributed as dist

from pipemlp.checkpoint.model_files import layer_file, save_index, save_layers
from pipemlp.config.errors import ClusterError, DataError
from pipemlp.config.root import RunConfig
from pipemlp.data import PreparedData, Preprocessing, prepare
from pipemlp.data.prepared import ColumnNames
from pipemlp.data.splits import Splits
from pipemlp.engine.pipeline import Pipeline, place_of
from pipemlp.engine.processes import join_processes, leave_processes
from pipemlp.engine.virtual_stage import LossFunction
from pipemlp.launching.environment import WorkerEnvironment
from pipemlp.model.losses import build_loss
from pipemlp.planning.budget import budget_of
from pipemlp.planning.layers import describe_layers
from pipemlp.planning.making import Known, make_plan
from pipemlp.planning.plan_file import costs_from_json, prediction_from_json
from pipemlp.planning.shapes import shape_from_json
from pipemlp.schedule.torch_csv import read_csv
from pipemlp.training.batches import BatchLoader
from pipemlp.training.exchange_report import exchange_report
from pipemlp.training.prediction_check import PredictionCheck
from pipemlp.training.preparation import Preparation
from pipemlp.training.startup import message_to_others
from pipemlp.training.timeline import TimelineRecorder
from pipemlp.training.trainer import Outcome, Trainer, Watcher
from pipemlp.training.watchers import FirstRankWatcher, SilentWatcher


def run_worker(
    prepared: tuple[Preparation, Path] | None,
    environment: WorkerEnvironment,
    device_name: str,
    timeout_seconds: float,
    terminal: TextIO,
    learn_run_dir: Callable[[Path], None],
) -> Path:
    """Train; returns the run directory. `prepared` is given on rank 0, which tells the others.

    Args:
        terminal: for what the user should see.
        learn_run_dir: told the run directory as soon as this rank knows it.
    """
    if device_name == "cuda" and not torch.cuda.is_available():
        raise ClusterError("run.device is cuda, but torch finds no GPU; set run.device=cpu, or check the driver")
    device = torch.device("cuda", environment.local_rank) if device_name == "cuda" else torch.device("cpu")
    join_processes(device_name, environment.local_rank, timeout_seconds)
    preparation, run_dir = _share(prepared, device)
    learn_run_dir(run_dir)
    config = preparation.config
    torch.set_num_threads(int(config.run.threads))
    pipeline = build_pipeline(preparation)
    loader = BatchLoader(preparation.data, preparation.plan, pipeline.place, seed=config.run.seed, device=device)
    watcher: Watcher = SilentWatcher()
    if environment.rank == 0:
        watcher = FirstRankWatcher(run_dir, preparation, terminal)
    # a timeline shows a step that all ranks have in common
    timeline_every_steps = 0 if pipeline.is_asynchronous else config.logging.timeline_every_steps
    recorder = TimelineRecorder(run_dir, pipeline, timeline_every_steps)
    check = None
    if preparation.plan.prediction is not None and not pipeline.is_asynchronous:
        check = PredictionCheck(pipeline, device, config.logging.timeline_every_steps)
    outcome = Trainer(preparation, pipeline, loader, device, watcher, recorder, check).run()
    save_model(run_dir, preparation, pipeline, outcome)
    report = check.report() if check is not None else None
    exchanged = exchange_report(pipeline)
    leave_processes()
    if isinstance(watcher, FirstRankWatcher):
        watcher.finish(outcome, report, exchanged)
    return run_dir


def build_pipeline(preparation: Preparation) -> Pipeline:
    """This rank's part of the pipeline of a prepared run."""
    config = preparation.config
    return Pipeline(
        preparation.layers,
        preparation.plan,
        optimizer=config.optimizer,
        loss=weighted_loss(config),
        clip_norm=config.training.clip_norm,
        precision=config.precision,
        seed=config.run.seed,
        timeout_seconds=config.fault.timeout_seconds,
        gradients=config.gradients,
    )


def weighted_loss(config: RunConfig) -> LossFunction:
    """The loss as the engine calls it, with target and weight in one tuple."""
    loss = build_loss(config.chosen_loss)

    def loss_fn(outputs: torch.Tensor, labels: tuple[torch.Tensor, torch.Tensor]) -> torch.Tensor:
        return loss(outputs, *labels)

    return loss_fn


def _share(prepared: tuple[Preparation, Path] | None, device: torch.device) -> tuple[Preparation, Path]:
    """Rank 0's decisions on every rank; only those that need rows open the data."""
    message: list[str | None] = [None if prepared is None else message_to_others(*prepared)]
    dist.broadcast_object_list(message, src=0, device=device)
    if prepared is not None:
        return prepared
    received = json.loads(str(message[0]))
    config = RunConfig.model_validate(received["config"])
    shape = shape_from_json(received["shape"])
    layers = describe_layers(config.model, shape)
    known = Known(
        schedule=read_csv(received["schedule"], config.chosen_parallel.schedule),
        costs=costs_from_json(received["costs"]),
        runs_on_gpu=device.type == "cuda",
    )
    plan = make_plan(config, layers, known)
    if received["prediction"] is not None:
        plan = replace(plan, prediction=prediction_from_json(received["prediction"]))
    place = place_of(plan, dist.get_rank())
    learned = Preprocessing.from_json(received["preprocessing"])
    if place.reads_inputs or place.computes_loss:
        data = same_data(prepare(config, Path.cwd()), learned, received["content"])
    else:
        columns = ColumnNames(learned.numeric, learned.categorical, learned.targets, None)
        data = PreparedData(shape, learned, columns, (), "", Splits(()))
    budget = budget_of(config, shape.num_rows[0])
    return Preparation(config, data, layers, plan, budget, ()), Path(received["run_dir"])


def same_data(data: PreparedData, learned: Preprocessing, content: list[str]) -> PreparedData:
    """The data as this rank reads them, which have to be those of rank 0.

    Raises:
        DataError: if they differ in content, or in what is learned from them.
    """
    if data.content != content or data.preprocessing != learned:
        what = "other content" if data.content != content else "other statistics"
        raise DataError(
            f"data: rank {dist.get_rank()} on {platform.node()} reads {what} than rank 0; "
            "give every host the same files"
        )
    return data


def save_model(run_dir: Path, preparation: Preparation, pipeline: Pipeline, outcome: Outcome) -> None:
    """Each rank of replica 0 writes its layers; rank 0 the index.

    Raises:
        ClusterError: if rank 0 does not see what the others wrote.
    """
    directory = run_dir / "model"
    if pipeline.place.replica == 0:
        save_layers(directory, pipeline.layer_tensors())
    dist.barrier()
    if dist.get_rank() == 0:
        unseen = [layer.index for layer in preparation.layers if not (directory / layer_file(layer.index)).is_file()]
        if unseen:
            raise ClusterError(
                f"{directory}: layers {unseen[0]}..{unseen[-1]} were written on another host and cannot be seen here; "
                "put run.dir on a file system that all hosts share"
            )
        save_index(
            directory,
            preparation.layers,
            model=preparation.config.model,
            shape=preparation.data.shape,
            preprocessing=preparation.data.preprocessing,
            about={"step": outcome.best_step, "loss": preparation.config.chosen_loss.model_dump(mode="json")},
        )
