"""Devices by name: what they compute, move, hold and send at most, by their makers' figures.

Peaks are those of dense matrix products, without sparsity; sizes are decimal (1 GB = 10^9 bytes); a link's bandwidth is
one direction's. Makers state no latencies: those here are what NCCL's tuning model (src/graph/tuning.cc) charges for a
step of a ring, 3.4 us over NVLink, 5.7 us over PCIe, 9.6 us over the network. Real devices reach less than all of it,
so that times from this table are a floor; a profile measures the rest.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from types import MappingProxyType


@dataclass(frozen=True)
class Link:
    """A way between two devices.

    Args:
        bytes_per_second: in one direction.
        latency_seconds: of an empty message.
    """

    bytes_per_second: float
    latency_seconds: float

    def seconds(self, num_bytes: float) -> float:
        """Time to send so many bytes in one message."""
        return self.latency_seconds + num_bytes / self.bytes_per_second


@dataclass(frozen=True)
class Device:
    """What one device can do.

    Args:
        name: as users write it.
        fp32_flops_per_second, bf16_flops_per_second: peaks of dense matrix products; fp32 without TF32, as PyTorch
            multiplies by default.
        memory_bytes_per_second: to and from its own memory.
        memory_bytes: what it holds.
        inside_node, between_nodes: links to its neighbours.
        source: where the figures are from.
    """

    name: str
    fp32_flops_per_second: float
    bf16_flops_per_second: float
    memory_bytes_per_second: float
    memory_bytes: float
    inside_node: Link
    between_nodes: Link
    source: str

    def flops_per_second(self, value_bytes: int) -> float:
        """The peak for values of 2 (bf16) or 4 bytes (fp32).

        Raises:
            ValueError: for values of another size.
        """
        if value_bytes not in (2, 4):
            raise ValueError(f"no peak for values of {value_bytes} bytes; there are 2 (bf16) and 4 (fp32)")
        return self.bf16_flops_per_second if value_bytes == 2 else self.fp32_flops_per_second


def _nvlink(gigabytes_per_second: float) -> Link:
    return Link(gigabytes_per_second * 1e9, 3.4e-6)


_PCIE_4 = Link(32e9, 5.7e-6)


def _network(gigabits_per_second: float) -> Link:
    return Link(gigabits_per_second / 8 * 1e9, 9.6e-6)


_DEVICES = (
    Device(
        "a100-40gb", 19.5e12, 312e12, 1555e9, 40e9, _nvlink(300), _network(200),
        "NVIDIA A100 data sheet, SXM4 (NVLink 600 GB/s, both directions); DGX A100: 200 Gb/s per GPU",
    ),
    Device(
        "a100-80gb", 19.5e12, 312e12, 2039e9, 80e9, _nvlink(300), _network(200),
        "NVIDIA A100 80GB data sheet, SXM4 (NVLink 600 GB/s, both directions); DGX A100: 200 Gb/s per GPU",
    ),
    Device(
        "h100-80gb", 67e12, 989.5e12, 3350e9, 80e9, _nvlink(450), _network(400),
        "NVIDIA H100 data sheet, SXM5 (bf16 1,979 with sparsity; NVLink 900 GB/s, both directions); "
        "DGX H100: 400 Gb/s per GPU",
    ),
    Device(
        "h200-141gb", 67e12, 989.5e12, 4800e9, 141e9, _nvlink(450), _network(400),
        "NVIDIA H200 data sheet, SXM (bf16 1,979 with sparsity; NVLink 900 GB/s, both directions); "
        "DGX H200: 400 Gb/s per GPU",
    ),
    Device(
        "b200-192gb", 80e12, 2250e12, 8000e9, 180e9, _nvlink(900), _network(400),
        "NVIDIA Blackwell architecture technical brief, HGX B200 (bf16 4,500 with sparsity; NVLink 1.8 TB/s, both "
        "directions); DGX B200 user guide: 180 of the 192 GB are there to use (1,440 on eight GPUs), 400 Gb/s per GPU",
    ),
    Device(
        "l4-24gb", 30.3e12, 121e12, 300e9, 24e9, _PCIE_4, _network(100),
        "NVIDIA L4 data sheet (bf16 242 with sparsity; PCIe Gen4 x16 64 GB/s, both directions); "
        "network assumed: 100 Gb/s",
    ),
    Device(
        "v100-32gb", 15.7e12, 15.7e12, 900e9, 32e9, _nvlink(25), _network(50),
        "NVIDIA V100 data sheet, SXM2 (no bf16: counted as fp32); DGX-1 with Tesla V100 white paper: one NVLink of "
        "25 GB/s in each direction between neighbours, four 100 Gb/s adapters for eight GPUs",
    ),
    Device(
        "rtx4090-24gb", 82.6e12, 165.2e12, 1008e9, 24e9, _PCIE_4, _network(100),
        "NVIDIA Ada GPU architecture white paper (bf16 with fp32 accumulation; PCIe Gen4 x16); "
        "network assumed: 100 Gb/s",
    ),
    Device(
        "mi300x-192gb", 163.4e12, 1307.4e12, 5300e9, 192e9, Link(64e9, 5.7e-6), _network(400),
        "AMD Instinct MI300X data sheet (one Infinity Fabric link to each neighbour, 128 GB/s in both directions); "
        "latency assumed as over PCIe, network assumed: 400 Gb/s per GPU",
    ),
    Device(
        "cpu", 80e9, 80e9, 25.6e9, 16e9, Link(10e9, 20e-6), Link(1.25e9, 50e-6),
        "nominal, no maker's: one core with two 8-wide fused multiply-adds at 2.5 GHz, one channel of DDR4-3200 "
        "(25.6 GB/s), 16 GB, messages copied through memory, 10 Gb/s Ethernet; profile the machine instead",
    ),
)  # fmt: skip
DEVICES: Mapping[str, Device] = MappingProxyType({device.name: device for device in _DEVICES})
"""All devices by name."""


def device_of(name: str) -> Device:
    """The device of a name.

    Raises:
        ValueError: if there is none; with the nearest name and all names.
    """
    device = DEVICES.get(name)
    if device is None:
        near = get_close_matches(name.lower().replace("_", "-"), DEVICES, n=1, cutoff=0.4)
        hint = f"; did you mean {near[0]}?" if near else "."
        raise ValueError(f"unknown device {name!r}{hint} There are {', '.join(DEVICES)}")
    return device
