"""Costs by a device's data sheet, for where there is nothing to measure: a floor, marked as such."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from types import MappingProxyType

from pipemlp.planning.devices import DEVICES, Device
from pipemlp.planning.layer_times import LayerTimes, analytic_times
from pipemlp.planning.machine import Machine, Network, curve_of
from pipemlp.planning.recompute import Recompute
from pipemlp.planning.workload import Workload

OPTIMIZER_BYTES: Mapping[str, int] = MappingProxyType(
    {"sgd": 12, "sgd-momentum": 20, "sgd-nesterov": 20, "adam": 28, "adamw": 28}
)
"""Read and written per parameter in float32: sgd reads weight and gradient and writes the weight; a momentum is read
and written besides; Adam has two of them."""


@dataclass(frozen=True)
class AnalyticCosts:
    """A device's data sheet as a source of costs.

    Args:
        workload: whose layers are asked for.
        device: the data sheet.
    """

    workload: Workload
    device: Device

    @cached_property
    def machine(self) -> Machine:
        """Links, memory and optimizer by the data sheet; actions and steps cost nothing besides."""
        device = self.device
        return Machine(
            name=device.name,
            is_measured=False,
            memory_bytes=device.memory_bytes,
            inside=Network(
                curve_of(device.inside_node), curve_of(device.inside_node), device.inside_node.latency_seconds
            ),
            between=Network(
                curve_of(device.between_nodes), curve_of(device.between_nodes), device.between_nodes.latency_seconds
            ),
            optimizer_seconds=OPTIMIZER_BYTES[self.workload.optimizer] / device.memory_bytes_per_second,
            is_gpu=device.name != "cpu",
        )

    def times(self, rows: int, recompute: Recompute) -> LayerTimes:
        """By peak and memory bandwidth."""
        return analytic_times(
            self.workload.layers,
            micro_batch_rows=rows,
            value_bytes=self.workload.value_bytes,
            recompute=recompute,
            device=self.device,
        )


def nominal_costs(workload: Workload) -> AnalyticCosts:
    """Where only proportions count and no device is named: those of the nominal CPU."""
    return AnalyticCosts(workload, DEVICES["cpu"])
