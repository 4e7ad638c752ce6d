"""One process of a run, from joining the others to the trained model on disk."""

import json
import platform
import shutil
from dataclasses import replace
from pathlib import Path

import torch
import torch.distributed as dist

from pipemlp.checkpoint.commit import Together
from pipemlp.checkpoint.folder import MODEL_FOLDER, read_manifest
from pipemlp.checkpoint.model_files import layer_file, publish, save_layers
from pipemlp.checkpoint.sealed_files import sealed, write_manifest
from pipemlp.config.errors import ClusterError, DataError, RunFailedError
from pipemlp.config.root import RunConfig
from pipemlp.data import PreparedData, Preprocessing, prepare
from pipemlp.data.prepared import ColumnNames
from pipemlp.data.splits import Splits
from pipemlp.engine.pipeline import Pipeline
from pipemlp.engine.place import place_of
from pipemlp.engine.private.store import default_store
from pipemlp.engine.processes import join_processes, leave_processes
from pipemlp.launching.environment import WorkerEnvironment
from pipemlp.launching.outcome import stop_code
from pipemlp.planning.budget import budget_of
from pipemlp.planning.layers import describe_layers
from pipemlp.planning.making import Known, make_plan
from pipemlp.planning.plan_file import costs_from_json, prediction_from_json
from pipemlp.planning.shapes import shape_from_json
from pipemlp.schedule.torch_csv import read_csv
from pipemlp.training.batches import BatchLoader
from pipemlp.training.building import make_pipeline, weighted_loss
from pipemlp.training.checkpointer import Checkpointer
from pipemlp.training.doing import Doing
from pipemlp.training.exchange_report import exchange_report
from pipemlp.training.heartbeats import Heartbeats
from pipemlp.training.life import Life
from pipemlp.training.meeting import loopback_store
from pipemlp.training.model_index import manifest_of, save_index_of
from pipemlp.training.prediction_check import PredictionCheck
from pipemlp.training.preparation import Preparation
from pipemlp.training.restoring import restore
from pipemlp.training.startup import Begun, message_to_others
from pipemlp.training.stopping import Stopping
from pipemlp.training.timeline import TimelineRecorder
from pipemlp.training.trainer import FROM_THE_START, Trainer
from pipemlp.training.watchers import FirstRankWatcher, SilentWatcher
from pipemlp.training.watching import Watcher

SHARE_TO_SAVE = 0.9
"""Of the timeout: who was told to stop and has not saved by then says why, before `pipemlp` ends it."""


def run_worker(
    begun: Begun | None,
    environment: WorkerEnvironment,
    device_name: str,
    timeout_seconds: float,
    life: Life,
) -> int:
    """Train; returns the exit code.

    Args:
        begun: given on rank 0, which tells the others.
        life: told the run directory as soon as this rank knows it, and how to stop.
    """
    device = _device(device_name, environment.local_rank)
    store = loopback_store(environment, timeout_seconds)
    join_processes(device_name, environment.local_rank, timeout_seconds, store)
    doing = Doing()
    beats = _begin_to_beat(environment, doing, timeout_seconds, life)
    life.who_is_gone = beats.gone
    begun = _share(begun, device)
    preparation, run_dir = begun.preparation, begun.run_dir
    beats.num_replicas = preparation.plan.num_replicas
    life.learn_run_dir(run_dir)
    config = preparation.config
    torch.set_num_threads(int(config.run.threads))
    pipeline = build_pipeline(preparation)
    loader = BatchLoader(preparation.data, preparation.plan, pipeline.place, seed=config.run.seed, device=device)
    watcher = _watcher(begun, environment.rank, life)
    beats.note = watcher.note
    recorder, check = _recorders(run_dir, preparation, pipeline, device)
    doing.finer = lambda: f"action {pipeline.at}" if pipeline.at is not None else ""
    checkpointer = Checkpointer(run_dir, preparation, pipeline, doing.saving)
    begin = FROM_THE_START if begun.checkpoint is None else restore(begun.checkpoint, pipeline, watcher)
    checkpointer.last_saved = begin.position.step
    stopping = Stopping(default_store(), environment.rank, environment.world_size)
    stopping.begin(begin.position.step)
    life.stops_by(stopping.ask, SHARE_TO_SAVE * timeout_seconds, doing.text)
    trainer = Trainer(
        preparation, pipeline, loader, device, watcher, recorder, check, checkpointer, begin, stopping, doing
    )
    outcome = trainer.run()
    stopping.end()
    if outcome.stopped_by is None:
        doing("saving the model")
        save_model(run_dir, preparation, pipeline, outcome.best_step, checkpointer.ranks)
    checkpointer.ranks.everyone(None)  # until all are done with their files, all are heard
    beats.end()
    if outcome.stopped_by is not None:
        if isinstance(watcher, FirstRankWatcher):
            watcher.stopped(outcome)
        leave_processes()
        return stop_code(outcome.stopped_by)
    report = check.report() if check is not None else None
    exchanged = exchange_report(pipeline)
    leave_processes()
    if isinstance(watcher, FirstRankWatcher):
        watcher.finish(outcome, report, exchanged, checkpointer.stalls, checkpointer.num_saved)
    return 0


def _device(name: str, local_rank: int) -> torch.device:
    if name == "cuda" and not torch.cuda.is_available():
        raise ClusterError("run.device is cuda, but torch finds no GPU; set run.device=cpu, or check the driver")
    return torch.device("cuda", local_rank) if name == "cuda" else torch.device("cpu")


def _begin_to_beat(environment: WorkerEnvironment, doing: Doing, timeout_seconds: float, life: Life) -> Heartbeats:
    """As soon as the ranks have met: whatever comes next, a rank that dies is missed."""
    return Heartbeats(
        default_store().clone(),
        environment.rank,
        environment.world_size,
        doing,
        timeout_seconds,
        lambda message: life.leave(message, RunFailedError.exit_code, own=True),
    )


def _watcher(begun: Begun, rank: int, life: Life) -> Watcher:
    if rank != 0:
        return SilentWatcher()
    step = 0 if begun.checkpoint is None else read_manifest(begun.checkpoint).step
    return FirstRankWatcher(begun.run_dir, begun.preparation, life.terminal.file, step)


def _recorders(
    run_dir: Path, preparation: Preparation, pipeline: Pipeline, device: torch.device
) -> tuple[TimelineRecorder, PredictionCheck | None]:
    """Of steps that all ranks have in common, which asynchronous ones are not."""
    every_steps = 0 if pipeline.is_asynchronous else preparation.config.logging.timeline_every_steps
    recorder = TimelineRecorder(run_dir, pipeline, every_steps)
    if preparation.plan.prediction is None or pipeline.is_asynchronous:
        return recorder, None
    return recorder, PredictionCheck(pipeline, device, every_steps)


def build_pipeline(preparation: Preparation) -> Pipeline:
    """This rank's part of the pipeline of a prepared run."""
    config = preparation.config
    return make_pipeline(config, preparation.layers, preparation.plan, weighted_loss(config))


def _share(begun: Begun | None, device: torch.device) -> Begun:
    """Rank 0's decisions on every rank; only those that need rows open the data."""
    message: list[str | None] = [None if begun is None else message_to_others(begun)]
    dist.broadcast_object_list(message, src=0, device=device)
    if begun is not None:
        return begun
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
    checkpoint = Path(received["checkpoint"]) if received["checkpoint"] else None
    return Begun(Preparation(config, data, layers, plan, budget, ()), Path(received["run_dir"]), checkpoint)


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


def save_model(run_dir: Path, preparation: Preparation, pipeline: Pipeline, step: int, together: Together) -> None:
    """Each rank of replica 0 writes and hashes its layers; rank 0 the index and the manifest, and puts all in the place
    of an earlier model.

    Args:
        run_dir: of the run, seen by all ranks.
        preparation: of it.
        pipeline: this rank's.
        step: after which the weights are what they are.
        together: all ranks, none of which gives up waiting.

    Raises:
        ClusterError: if rank 0 does not see what the others wrote.
    """
    directory, staging = run_dir / MODEL_FOLDER, run_dir / ".model-saving"
    if together.rank == 0:
        shutil.rmtree(staging, ignore_errors=True)
    together.everyone(None)
    own = save_layers(staging, pipeline.layer_tensors()) if pipeline.place.replica == 0 else {}
    written = together.everyone(own)
    if together.rank == 0:
        unseen = [layer.index for layer in preparation.layers if not (staging / layer_file(layer.index)).is_file()]
        if unseen:
            raise ClusterError(
                f"{directory}: layers {unseen[0]}..{unseen[-1]} were written on another host and cannot be seen here; "
                "put run.dir on a file system that all hosts share"
            )
        files = {name: entry for layers in written for name, entry in layers.items()}
        files |= {name: sealed(staging / name) for name in save_index_of(staging, preparation, step)}
        write_manifest(staging, manifest_of(preparation, step, files))
        publish(staging, directory)
