"""Emulated devices: all competitors on layers that sleep, and the calibration of our simulator."""

from collections.abc import Sequence

import torch
from alternation import alternate
from calibration import Calibration
from emulated import EmulatedLayer, calibrate_sleep, emulated_loss
from ours_schedules import Ours, hidden_layers
from pipeline_rivals import TORCH_SCHEDULES, DeepSpeed, TorchPipelining
from schedule_lines import VIRTUAL_STAGES, EmulatedRow, Emulation, Measured
from workload import Competitor, Workload

from pipemlp.schedule.schedule import Schedule
from pipemlp.schedule.simulate import simulate

MESSAGE_WIDTH = 256
LAYER_SECONDS = Emulation.stage_seconds / VIRTUAL_STAGES
"""As many layers as virtual stages, so that all schedules cut the same layers."""


def measure_emulated(
    emulation: Emulation, calibration: Calibration, orders: Sequence[Schedule]
) -> tuple[list[EmulatedRow], float]:
    """Run on every rank: the steps of all rivals and of our `orders`, and what the sleep overshoots by."""
    overshoot = calibrate_sleep(LAYER_SECONDS)
    workload = emulated_workload(emulation.num_stages, emulation.num_micro_batches, emulation.message_bytes)
    competitors: list[Competitor] = [DeepSpeed(workload)]
    if workload.num_micro_batches >= 2 * workload.num_stages:
        competitors.append(DeepSpeed(workload, "dualpipev"))
    competitors += [TorchPipelining(workload, schedule) for schedule in TORCH_SCHEDULES]
    competitors += [Ours(workload, order) for order in orders]
    measured = alternate(competitors, emulation.num_rounds)
    return [_row(*pair, calibration) for pair in zip(competitors, measured, strict=True)], overshoot


def _row(competitor: Competitor, measured: Measured, calibration: Calibration) -> EmulatedRow:
    simulation = simulate(competitor.order, calibration.costs(competitor.order))
    seconds = simulation.makespan + calibration.step if competitor.system == "pipemlp" else None
    return EmulatedRow(measured, max(simulation.peak_in_flight), seconds)


def emulated_workload(num_stages: int, num_micro_batches: int, message_bytes: int) -> Workload:
    """The sleeping layers, with tensors of the wanted size between them."""
    width = min(MESSAGE_WIDTH, message_bytes // 4)
    inputs = torch.zeros(num_micro_batches * message_bytes // (4 * width), width)
    depth = num_stages * VIRTUAL_STAGES
    block = {"name": "emulated", "seconds": LAYER_SECONDS}
    return Workload(
        num_stages=num_stages,
        num_micro_batches=num_micro_batches,
        descriptions=hidden_layers({"hidden": {"width": width, "depth": depth}, "block": block}, width),
        layers=lambda index: EmulatedLayer(LAYER_SECONDS),
        loss=emulated_loss,
        inputs=inputs,
        target=torch.zeros(len(inputs), 1),
    )
