"""Where costs come from: a profile that belongs to the configuration and this machine, else a device's data sheet."""

import re
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import pairwise
from pathlib import Path

from pipemlp.config.errors import ConfigError
from pipemlp.config.root import RunConfig
from pipemlp.launching.devices import device_of_run
from pipemlp.planning.analytic import AnalyticCosts
from pipemlp.planning.devices import DEVICES, Device, device_of
from pipemlp.planning.facts import workload_facts
from pipemlp.planning.layer_times import LayerTimes
from pipemlp.planning.layers import LayerDescription
from pipemlp.planning.machine import CostSource, Machine
from pipemlp.planning.profile import Profile
from pipemlp.planning.recompute import Recompute
from pipemlp.planning.workload import workload_of
from pipemlp.profiling.here import cpu_name, gpu_name
from pipemlp.profiling.profile_file import check_facts, read_profile
from pipemlp.training.profile_report import NOTEWORTHY_SPREAD
from pipemlp.training.run_directory import run_name
from pipemlp.training.versions import version_facts


def usual_profile(config: RunConfig) -> Path:
    """Where `pipemlp profile` leaves the profile of a configuration, and `plan` looks for it."""
    return Path(f"{run_name(config)}.profile.json")


def profile_costs(
    path: Path, config: RunConfig, layers: tuple[LayerDescription, ...], device: str | None = None
) -> Profile:
    """The profile in a file, if it belongs here.

    Args:
        path: of the file.
        config, layers: resolved; what is to be planned.
        device: a name that the profile must have, as the user says it; else this machine's.

    Raises:
        ConfigError: if the file is no profile, or one of something else, with what differs.
    """
    profile = read_profile(path)
    measured = dict(profile.facts).get("device", "an unknown device")
    if device is not None and device.lower() != measured.lower():
        raise ConfigError(
            f"--device {device} and --profile {path}, which is of {measured}, contradict each other: leave one out"
        )
    expected = workload_facts(config, layers) | version_facts()
    if device is None:
        expected["device"] = local_device(config)
    check_facts(path, profile, expected)
    return profile


def on_gpu(config: RunConfig) -> bool:
    """Whether this machine would train it on GPUs."""
    return device_of_run(config.run.device) == "cuda"


def local_device(config: RunConfig) -> str:
    """What the device calls itself that this machine would train on."""
    return (gpu_name() or "a GPU") if on_gpu(config) else cpu_name()


def local_data_sheet(config: RunConfig) -> Device:
    """The table's entry for this machine's device, else the nominal CPU."""
    found = device_of_model(gpu_name() or "") if on_gpu(config) else None
    return DEVICES["cpu"] if found is None else found


def device_of_model(model: str) -> Device | None:
    """The table's entry for what a driver calls a GPU, such as `NVIDIA A100-SXM4-80GB`; None if there is none."""
    words = re.findall(r"[a-z0-9]+", model.lower())
    words += [one + other for one, other in pairwise(words)]  # RTX 4090
    family = [device for device in DEVICES.values() if device.name.split("-")[0] in words]
    sized = [device for device in family if device.name.split("-")[-1] in words]
    return next(iter(sized or family), None)


@dataclass(frozen=True)
class Placed:
    """A source of costs whose ranks lie on nodes of a certain size."""

    source: CostSource
    ranks_per_node: int

    @cached_property
    def machine(self) -> Machine:
        """That of the source, on such nodes."""
        return replace(self.source.machine, ranks_per_node=self.ranks_per_node)

    def times(self, rows: int, recompute: Recompute) -> LayerTimes:
        """Those of the source."""
        return self.source.times(rows, recompute)


@dataclass(frozen=True)
class Chosen:
    """A source of costs, and in words where it is from."""

    source: CostSource
    origin: str


def choose_source(
    config: RunConfig, layers: tuple[LayerDescription, ...], profile: Path | None, device: str | None
) -> Chosen:
    """A profile if one is given, or lies here by the config's name; else a device's data sheet.

    Raises:
        ConfigError: for an unknown device, or a profile that is none or of something else.
    """
    usual = usual_profile(config)
    if profile is None and device is None and usual.is_file():
        profile = usual
    if profile is not None:
        return _measured(profile, config, layers, device)
    if device is None:
        return _by_own_sheet(config, layers, "no profile and no --device given")
    try:
        return Chosen(AnalyticCosts(workload_of(config, layers), device_of(device)), f"{device}'s data sheet")
    except ValueError as error:
        raise ConfigError(f"device: {error}") from error


def usual_source(config: RunConfig, layers: tuple[LayerDescription, ...]) -> Chosen:
    """The usual profile if it is there and belongs here, else the data sheet, with the reason."""
    path = usual_profile(config)
    reason = f"`pipemlp profile` measures it into {path}"
    if path.is_file():
        try:
            return _measured(path, config, layers)
        except ConfigError as error:
            reason = f"not measured: {error}"
    return _by_own_sheet(config, layers, reason)


def _measured(path: Path, config: RunConfig, layers: tuple[LayerDescription, ...], device: str | None = None) -> Chosen:
    found = profile_costs(path, config, layers, device)
    sure = f", whose repetitions differed by {found.spread:.0%}" if found.spread > NOTEWORTHY_SPREAD else ""
    return Chosen(found, f"measured: {path}{sure}")


def _by_own_sheet(config: RunConfig, layers: tuple[LayerDescription, ...], reason: str) -> Chosen:
    sheet = local_data_sheet(config)
    return Chosen(AnalyticCosts(workload_of(config, layers), sheet), f"{sheet.name}'s data sheet; {reason}")
