"""Bytes per rank at the peak of a training step, item by item.

    always      parameters, sums of the gradients, optimizer state, batches, tables of dropout
    computing   activations, tensors in transfer, results in the making
    stepping    copies of gradients, and what the optimizer computes with them

What computes has gone when the optimizer takes its step, so that the peak has the larger of the two: the item `step` is
what stepping takes beyond what computing took. The reduction over the replicas takes nothing: it runs in place, in
buckets of the sums (engine/gradient_sums.py).
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, fields

from pipemlp.planning.activation_peaks import ActivationPeaks
from pipemlp.planning.exchange import Exchange
from pipemlp.planning.layers import LayerDescription
from pipemlp.planning.pass_memory import PassMemory, computing_bytes, mask_table_bytes
from pipemlp.planning.recompute import Recompute
from pipemlp.planning.sums import SUM_BYTES

STATE_VALUES = {"sgd": 0, "sgd-momentum": 1, "sgd-nesterov": 1, "adam": 2, "adamw": 2}
"""Values of float32 optimizer state per parameter."""
WORKSPACE_BYTES = 2 * 32 * 2**20
"""Workspaces of cuBLAS on a Hopper GPU, which PyTorch takes from its allocator: 32 MiB for each thread that multiplies,
the program's and autograd's (cuBLAS documentation, cublasSetWorkspace; 8 MiB on older GPUs)."""
CONTEXT_BYTES = 2**30
"""What a process holds on a GPU outside the allocator: the CUDA context, loaded kernels, NCCL's buffers of every link.
An assumption: Hugging Face measured 1.3 GB with all kernels loaded (model_training_anatomy); CUDA loads them as needed
since version 11.7."""
FRAGMENTATION = 0.1
"""The share of what comes and goes that the caching allocator cannot use; an assumption."""
PLAIN = Exchange()
_INDEX_BYTES = 8
_NORM_BYTES = 8
"""DeepSpeed's ZeRO 1 takes norms in float64, of one tensor at a time."""


@dataclass(frozen=True)
class MemoryEstimate:
    """What one rank holds at its peak, in bytes.

    Args:
        parameter_bytes: in the compute precision.
        gradient_bytes: the sums, in float32.
        optimizer_bytes: its state, and with ZeRO 1 its float32 copy of the parameters, sharded over the replicas.
        activation_bytes: what forwards left for backwards, and input gradients for weight gradients, with what is
            computed again.
        transfer_bytes: tensors on their way between stages, where they are known apart.
        buffer_bytes: results in the making, batches, tables of dropout; on a GPU the workspaces of products.
        step_bytes: what the optimizer's step takes beyond the room that computing has left.
        margin_bytes: on a GPU, what neither tensors nor the allocator's peak count.
        exchange_bytes: what exchanging gradients keeps: residuals, messages, the common weights of local updates.
    """

    parameter_bytes: int
    gradient_bytes: int
    optimizer_bytes: int
    activation_bytes: int
    transfer_bytes: int
    buffer_bytes: int
    step_bytes: int
    margin_bytes: int
    exchange_bytes: int = 0

    @property
    def total_bytes(self) -> int:
        """All of it: what must fit."""
        return sum(self.items().values())

    @property
    def counted_bytes(self) -> int:
        """What tensors hold: what a measurement counts."""
        return self.total_bytes - self.margin_bytes

    def items(self) -> dict[str, int]:
        """Bytes by item (`parameter`, `gradient`, ...), in the order of every table."""
        return {field.name.removesuffix("_bytes"): getattr(self, field.name) for field in fields(self)}

    def missing(self, cap_bytes: int) -> dict[str, tuple[int, int]]:
        """For each item that takes anything: its bytes, and how many of them do not fit under a cap.

        The cap is filled in the order of the items, so that what is missing adds up to the total's excess.
        """
        found, left = {}, cap_bytes
        for name, size in self.items().items():
            if size:
                found[name] = size, min(size, max(0, size - left))
            left -= size
        return found


def estimate_memory(
    runs: Sequence[Sequence[LayerDescription]],
    *,
    peak_bytes: float,
    micro_batch_rows: int,
    num_micro_batches: int,
    optimizer: str,
    precision: str,
    zero_stage: int,
    num_replicas: int,
    recompute: Recompute,
    peaks: ActivationPeaks | None = None,
    weight_decay: bool = False,
    has_class_labels: bool = False,
    on_gpu: bool = False,
    exchange: Exchange = PLAIN,
) -> MemoryEstimate:
    """Peak bytes of the rank that holds some virtual stages.

    Args:
        runs: the layers of each of its virtual stages.
        peak_bytes: activations and received tensors at the peak between two actions, as simulated.
        micro_batch_rows, num_micro_batches: of a replica's batch.
        optimizer: a key of `STATE_VALUES`.
        precision: `fp32` or `bf16`; bf16 keeps a float32 copy of weights and gradient sums.
        zero_stage: 1 shards the optimizer state, and for bf16 the float32 weights, over the replicas.
        num_replicas: the shards.
        recompute: what the backward computes again.
        peaks: what the rank holds around its actions; without it every action is taken to meet the peak.
        weight_decay: whether there is any; but for adamw it takes a copy of the gradients.
        has_class_labels: whether a label is the index of a class, and not a number for every output.
        on_gpu: whether the rank has a GPU.
        exchange: of gradients between the replicas; servers have a share of the optimizer each.
    """
    num_parameters = sum(layer.num_parameters for run in runs for layer in run)
    exchanged = exchange.memory_bytes(num_parameters, num_replicas)
    zero_stage = 1 if exchange.serves and num_replicas > 1 else zero_stage
    num_replicas = 1 if exchange.update == "local" else num_replicas  # each has an optimizer of its own
    parameters, gradients, state = resting_state(num_parameters, optimizer, precision, zero_stage, num_replicas)
    value_bytes, batch_rows = 2 if precision == "bf16" else 4, micro_batch_rows * num_micro_batches
    shards, peaks = num_replicas if zero_stage == 1 else 1, peaks or ActivationPeaks.all_equal(peak_bytes, len(runs))
    passes = [PassMemory(run, micro_batch_rows, value_bytes, recompute, on_gpu, batch_rows) for run in runs]
    between = round(max(peak_bytes, computing_bytes(passes, peaks, making=False)))
    computing = max(between, round(computing_bytes(passes, peaks, making=True)))
    transfers = round(peak_bytes - peaks.kept)
    copies = _step_copies(optimizer, weight_decay=weight_decay, on_gpu=on_gpu)
    step = _step_bytes(runs, copies, zero_stage, shards, flattens=precision != "bf16", at_once=on_gpu)
    resting = _batch_bytes(runs, batch_rows, has_class_labels) + mask_table_bytes(passes, batch_rows * num_replicas)
    buffers = computing - between + resting + on_gpu * WORKSPACE_BYTES
    return MemoryEstimate(
        parameter_bytes=parameters,
        gradient_bytes=gradients,
        optimizer_bytes=state,
        activation_bytes=between - transfers,
        transfer_bytes=transfers,
        buffer_bytes=buffers,
        step_bytes=max(0, step - computing),
        margin_bytes=on_gpu * (CONTEXT_BYTES + round(FRAGMENTATION * max(computing, step))),
        exchange_bytes=exchanged,
    )


def resting_state(
    num_parameters: int, optimizer: str, precision: str, zero_stage: int, num_replicas: int
) -> tuple[int, int, int]:
    """Bytes of parameters, sums of gradients, and optimizer state, which are there all the time."""
    shards = num_replicas if zero_stage == 1 else 1
    values = (zero_stage == 1) + STATE_VALUES[optimizer]  # ZeRO 1 keeps a float32 copy of its shard
    parameters = (2 if precision == "bf16" else 4) * num_parameters
    return parameters, SUM_BYTES * num_parameters, values * SUM_BYTES * num_parameters // shards


def _step_copies(optimizer: str, *, weight_decay: bool, on_gpu: bool) -> int:
    """Values per parameter that torch's optimizers hold while they compute (torch/optim/adam.py, sgd.py).

    On a CPU, one tensor after the other: Adam the root of the mean square and its quotient, Nesterov's rule the
    gradient ahead. On a GPU, all tensors together and more in place: only Adam's root. Weight decay is added to a copy
    of the gradient, but for AdamW.
    """
    own = {"adam": 1 if on_gpu else 2, "adamw": 1 if on_gpu else 2, "sgd-nesterov": 0 if on_gpu else 1}
    return own.get(optimizer, 0) + (weight_decay and optimizer != "adamw")


def _step_bytes(
    runs: Sequence[Sequence[LayerDescription]],
    copies: int,
    zero_stage: int,
    shards: int,
    *,
    flattens: bool,
    at_once: bool,
) -> int:
    """What is there while the optimizer takes its step, and at no other time.

    With ZeRO 1 the optimizer sees one tensor, this rank's shard; in float32 its gradients are copied into one before,
    after a norm in float64 of each (deepspeed/runtime/zero/stage_1_and_2.py). For bf16 they lie there from the start.
    """
    sizes = [math.prod(parameter.shape) for run in runs for layer in run for parameter in layer.parameters]
    largest, shard = max(sizes, default=0), sum(sizes) // shards
    if zero_stage != 1:
        return SUM_BYTES * copies * (shard if at_once else largest)
    norm = _NORM_BYTES * min(largest, shard) if flattens else 0
    return max(norm, SUM_BYTES * (copies + flattens) * shard)


def _batch_bytes(runs: Sequence[Sequence[LayerDescription]], num_rows: int, has_class_labels: bool) -> int:
    """The inputs and labels of two batches, for the next one is read ahead."""
    first, last = runs[0][0], runs[-1][-1]
    inputs = 4 * first.input_width + first.kept_bytes_per_row if first.kind == "input" else 0
    label = _INDEX_BYTES if has_class_labels else 4 * last.output_width
    labels = label + 4 if last.kind == "output" else 0  # and its weight
    return 2 * num_rows * (inputs + labels)
