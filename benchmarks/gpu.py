"""One GPU: one stage, and four virtual stages, against a plain loop and stock DeepSpeed, in bf16.

What is reported is the share of the fastest matrix product that this GPU was seen to do. A step counts six
floating-point operations per weight and row, for everybody.
"""

import platform
import time
from collections.abc import Sequence
from importlib.metadata import version

import torch
from alternation import alternate
from dense import Dense, dense_workload
from ours_schedules import Ours
from pipeline_rivals import DeepSpeed, one_f_one_b, with_gradients
from torch import Tensor, nn
from workload import LEARNING_RATE, Competitor, Workload

from pipemlp.schedule.methods import make_schedule

DEPTH, NUM_MICRO_BATCHES = 8, 8
VIRTUAL_STAGES = 4
NUM_PRODUCTS = 20


class PlainLoop:
    """Forward and backward of each micro-batch, then the optimizer: no pipeline at all."""

    system, schedule = "torch", "plain loop"

    def __init__(self, workload: Workload) -> None:
        self._model = nn.Sequential(*(workload.layers(index) for index in range(workload.num_layers)))
        self._optimizer = torch.optim.SGD(self._model.parameters(), lr=LEARNING_RATE)
        self._workload = workload
        self._micro_batches = workload.micro_batches()
        self.order = one_f_one_b(1, workload.num_micro_batches)

    def step(self) -> None:
        """The textbook step."""
        self._optimizer.zero_grad()
        self._loss = torch.zeros((), device=self._workload.device)
        for inputs, target in self._micro_batches:
            loss = self._workload.loss(self._model(inputs), target) / len(self._micro_batches)
            loss.backward()
            self._loss += loss.detach()
        self._optimizer.step()

    def last_loss(self) -> float | None:
        """The mean over the micro-batches."""
        return float(self._loss)

    def kept_between_steps(self) -> Sequence[Tensor]:
        """The model's own."""
        return with_gradients([self._model])


def measure_gpu(
    widths: Sequence[int], rows: int, num_rounds: int, device_name: str = "cuda"
) -> list[dict[str, object]]:
    """Run on the one rank: a row for each width and competitor; `fraction` is of `peak_flops_per_second`."""
    device = torch.device(device_name)
    peak = max(product_flops_per_second(size, device) for size in widths)
    about = {
        "device": torch.cuda.get_device_name() if device.type == "cuda" else platform.machine(),
        "versions": {name: version(name) for name in ("torch", "deepspeed")},
    }
    found: list[dict[str, object]] = []
    for width in widths:
        workload = dense_workload(Dense(width, DEPTH), 1, NUM_MICRO_BATCHES, rows, device, bf16=True)
        flops = 6.0 * width * width * DEPTH * NUM_MICRO_BATCHES * rows
        for measured in alternate(_competitors(workload), num_rounds):
            found.append(
                {
                    "system": measured.system,
                    "schedule": measured.schedule,
                    "width": width,
                    "rows": rows,
                    "median_seconds": measured.median,
                    "flops_per_second": flops / measured.median,
                    "peak_flops_per_second": peak,
                    "fraction": flops / measured.median / peak,
                    **about,
                }
            )
    return found


def _competitors(workload: Workload) -> list[Competitor]:
    return [
        PlainLoop(workload),
        DeepSpeed(workload),
        Ours(workload, one_f_one_b(1, NUM_MICRO_BATCHES)),
        Ours(workload, make_schedule("interleaved-1f1b", 1, NUM_MICRO_BATCHES, VIRTUAL_STAGES)),
    ]


def product_flops_per_second(size: int, device: torch.device) -> float:
    """The fastest of several square bf16 products."""
    a, b = torch.randn(2, size, size, device=device, dtype=torch.bfloat16)
    best = float("inf")
    for _ in range(NUM_PRODUCTS):
        if device.type == "cuda":
            torch.cuda.synchronize()
        started = time.perf_counter()
        torch.mm(a, b)
        if device.type == "cuda":
            torch.cuda.synchronize()
        best = min(best, time.perf_counter() - started)
    return 2.0 * size**3 / best
