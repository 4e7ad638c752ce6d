"""What a rank's executor does beyond equal training: evaluate, give a loss per micro-batch, lose a peer."""

import gc
import sys
from collections.abc import Sequence

import torch
import torch.distributed as dist
from equality import BATCH, SEED, SHAPE, Case, batch, build, micro_batches

from pipemlp.engine.pipeline import Pipeline
from pipemlp.engine.transport import PeerLostError
from pipemlp.model.dropout import DropoutKey
from pipemlp.model.whole import build_model
from pipemlp.planning.layers import describe_layers


def step_of(case: Case, pipeline: Pipeline) -> None:
    rows = micro_batches(case, pipeline.plan, 0)
    pipeline.train_batch(rows, step=0, learning_rate=case.optimizer_config().lr)


def predicted(case: Case, rows: Sequence[Sequence[int]]) -> list[list[torch.Tensor]]:
    """Body: for each list of rows the outputs of slices of these sizes, of a batch that the replicas share."""
    pipeline = build(case)
    numeric, categorical, _ = batch(0, case.dtype)
    replica = pipeline.place.replica
    found = []
    for sizes in rows:
        starts = [BATCH // 2 * replica + sum(sizes[:index]) for index in range(len(sizes))]
        parts = [slice(start, start + size) for start, size in zip(starts, sizes, strict=True)]
        given = [((numeric[part], categorical[part]), None) for part in parts]
        own = list(sizes) if replica == 0 or case.replicas == 1 else []
        found.append(pipeline.predict_batch(given if own else [], own))
    step_of(case, pipeline)  # and it can still train
    return found


def expected_outputs(case: Case) -> torch.Tensor:
    numeric, categorical, _ = batch(0, case.dtype)
    with torch.no_grad():
        return build_model(describe_layers(case.model(), SHAPE), SEED, dtype=case.dtype).eval()(numeric, categorical)


def losses_of(case: Case) -> tuple[dict[int, float], float]:
    """Body: the loss of each micro-batch, where the last virtual stage is, and that of the batch."""
    pipeline = build(case)
    run, results = pipeline._executor.run, {}
    pipeline._executor.run = lambda program, given: results.update(found := run(program, given)) or found
    step_of(case, pipeline)
    return {index: float(loss) for index, loss in results.items()}, float(pipeline.batch_loss())


def expected_losses(case: Case) -> list[float]:
    """The same in one process: each micro-batch's mean over its rows."""
    model = build_model(describe_layers(case.model(), SHAPE), SEED, dtype=case.dtype).train()
    numeric, categorical, target = batch(0, case.dtype)
    size, loss = BATCH // case.micro_batches, case.loss_function()
    weight = torch.full((size,), 1 / size, dtype=case.dtype)
    with torch.no_grad():
        return [
            float(loss(model(numeric[s], categorical[s], DropoutKey(SEED, 0, s.start)), (target[s], weight)))
            for s in (slice(start, start + size) for start in range(0, BATCH, size))
        ]


def in_one_go(case: Case) -> int:
    """Body: how many tensors the executor still holds when a step is over."""
    pipeline = build(case)
    step_of(case, pipeline)
    executor = pipeline._executor
    held = executor._posted, executor._local, executor._outgoing, executor._passes
    transport = executor.transport
    return sum(map(len, held)) + len(transport._sending) + len(transport._told)


def with_a_peer_that_stops(case: Case, last: str) -> str:
    """Body: rank 1 comes as far as its action `last` of the second step, and does nothing more."""
    pipeline = build(case)
    step_of(case, pipeline)
    if dist.get_rank() == 1:
        program = pipeline._training_program
        pipeline._training_program = program[: [str(action) for action in program].index(last) + 1]
        pipeline._executor.transport.finish = _stop
    try:
        step_of(case, pipeline)
    except (PeerLostError, _StoppedError) as error:
        return str(error)
    return "nothing happened"


class _StoppedError(Exception):
    pass


def _stop() -> None:
    raise _StoppedError("stopped")


def loaded_by_destruction(zero_stage: int, precision: str) -> list[str]:
    """Body: the modules that an engine's destructor loads."""
    case = Case(zero_stage=zero_stage)
    pipeline = build(case, precision)
    pipeline.train_batch(iter(micro_batches(case, pipeline.plan, 0)), step=0, learning_rate=0.01)
    before = set(sys.modules)
    del pipeline
    gc.collect()
    return sorted(set(sys.modules) - before)
