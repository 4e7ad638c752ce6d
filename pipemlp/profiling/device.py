"""What the device at hand is called, and what a rank may hold of its memory."""

import psutil
import torch

from pipemlp.profiling.here import cpu_name


def device_name(device: torch.device) -> str:
    """As the device calls itself: `NVIDIA H200`, `AMD EPYC 7763 64-Core Processor`."""
    return str(torch.cuda.get_device_name(device)) if device.type == "cuda" else cpu_name()


def memory_of(device: torch.device, num_ranks: int) -> float:
    """Bytes that a rank may hold: its GPU's, or its share of this machine's."""
    if device.type == "cuda":
        return float(torch.cuda.get_device_properties(device).total_memory)
    return float(psutil.virtual_memory().total) / num_ranks
