"""Whether and where a run can go on: the newest whole checkpoint, and a configuration that it belongs to."""

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from pipemlp.checkpoint.commit import point_to
from pipemlp.checkpoint.folder import (
    FOLDER,
    MODEL_FOLDER,
    Checkpoint,
    PassedOver,
    leftovers,
    newest_to_go_on,
    remove,
    saved_steps,
    set_aside,
    step_folder,
)
from pipemlp.checkpoint.manifest import MANIFEST_FILE, fact
from pipemlp.config.errors import ConfigError, DataError
from pipemlp.config.files import replace_text
from pipemlp.config.loading import load_config
from pipemlp.config.origin import format_key, parse_key
from pipemlp.config.root import RunConfig
from pipemlp.training.plugins import loaded_plugins
from pipemlp.training.run_directory import CONFIG_FILE, METRICS_FILE
from pipemlp.training.vanished import refuse_vanished
from pipemlp.training.versions import run_versions

FREE = (
    ("parallel",),
    ("evaluation",),
    ("checkpoint",),
    ("logging",),
    ("fault",),
    ("optimizer", "lr"),
    ("lr_schedule",),
    ("training", "epochs"),
    ("training", "steps"),
    ("training", "early_stopping"),
)
"""What may change between a run and its continuation."""
UNSAID = (("run", "name"), ("run", "dir"), ("run", "device"), ("run", "threads"), ("data", "path"))
"""What says where a run is, and not what it is; data are compared by their content."""
STAYS = (
    "data, model, loss, precision, gradients, run.seed, training.global_batch_size, training.clip_norm, and optimizer "
    "but for its lr, stay in a run"
)
"""All the rest."""


@dataclass(frozen=True)
class Resumption:
    """Where a run goes on.

    Args:
        checkpoint: the newest whole one; None if there is none, and the run begins anew.
        passed: newer ones that are not whole, or refused.
        changes: of the configuration since, `key: old -> new`.
        warnings: what else is not as it was.
    """

    checkpoint: Checkpoint | None
    passed: tuple[PassedOver, ...] = ()
    changes: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()

    def notes(self) -> list[str]:
        """For the user."""
        lines = [each.warning() for each in self.passed]
        lines += [f"warning: {warning}" for warning in self.warnings]
        lines += [f"changed: {change}" for change in self.changes]
        if self.checkpoint is None:
            return [*lines, "no checkpoint yet: the run begins anew"]
        return [*lines, f"resumed after step {self.checkpoint.manifest.step}"]


def find_resumption(config: RunConfig, run_dir: Path, content: Sequence[str], model: str) -> Resumption:
    """Where the run in a directory goes on with a configuration.

    Args:
        config: resolved.
        run_dir: that a run has left.
        content: of the data, as it is now.
        model: its fingerprint, as it is now.

    Raises:
        ConfigError: with the keys that differ and may not.
        DataError: if the data are others.
        ModelFileError: if there are checkpoints, but none is whole; or if there were some, and none is there.
    """
    checkpoint, passed = newest_to_go_on(run_dir / FOLDER)
    saved = load_config((run_dir if checkpoint is None else checkpoint.directory) / CONFIG_FILE)
    if checkpoint is None:
        refuse_vanished(run_dir)
    changes, refused = differences(saved, config)
    _refuse(run_dir, refused)
    if checkpoint is not None and checkpoint.manifest.facts.get("data") != fact(content):
        raise DataError(f"{run_dir}: data: their content has changed since the run was saved; a run keeps its data")
    if checkpoint is not None and checkpoint.manifest.facts.get("model", model) != model:
        raise ConfigError(f"{run_dir}: model: its layers are not those that were saved; has a plug-in's block changed?")
    return Resumption(checkpoint, tuple(passed), tuple(changes), _warnings(checkpoint))


def _refuse(run_dir: Path, changes: Sequence[str]) -> None:
    if changes:
        *others, last = (f"{run_dir}: {change}" for change in changes)
        raise ConfigError([*others, f"{last}; {STAYS}"])


def _warnings(checkpoint: Checkpoint | None) -> tuple[str, ...]:
    """What is not as it was and may go on all the same: plug-ins, which are known by the names of what they register
    only, and versions of libraries, which may round in another way."""
    saved = {} if checkpoint is None else checkpoint.manifest.facts
    own = {"plugins": fact(loaded_plugins()), **run_versions()}
    names = {"plugins": "--plugin"}
    return tuple(
        f"{names.get(name, name)}: the run was saved with {saved[name]}, and goes on with {now}"
        for name, now in own.items()
        if saved.get(name, now) != now
    )


def differences(saved: RunConfig, now: RunConfig, *, decided: bool = True) -> tuple[list[str], list[str]]:
    """Keys that differ, as `key: old -> new`: those that may, and those that may not.

    Args:
        saved: resolved.
        now: resolved too, if `decided`; else what data decide, section `data` and each `auto`, is left out.
        decided: see there.
    """
    may: list[str] = []
    may_not: list[str] = []
    old, new = (dict(_leaves(config.model_dump(mode="json"), ())) for config in (saved, now))
    for key in dict.fromkeys([*old, *new]):
        one, other = old.get(key), new.get(key)
        is_open = key[0] == "data" or any(new.get(key[:length]) == "auto" for length in range(1, len(key) + 1))
        if one != other and key[:2] not in UNSAID and (decided or not is_open):
            is_free = any(key[: len(free)] == free for free in FREE)
            (may if is_free else may_not).append(f"{format_key(key)}: {_shown(one)} -> {_shown(other)}")
    return may, may_not


def _leaves(value: object, key: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], object]]:
    if isinstance(value, dict) and value:
        for name, inner in value.items():
            yield from _leaves(inner, (*key, str(name)))
    else:
        yield key, value


def _shown(value: object) -> str:
    text = json.dumps(value)
    return text if len(text) <= 60 else text[:57] + "..."


def chosen_again(path: Path, overrides: Sequence[str]) -> list[str]:
    """Further overrides that another grid needs: a resolved configuration holds boundaries, virtual stages and
    micro-batches for the grid it had, perhaps chosen by `auto`. What is overridden by name stays as it is.

    Args:
        path: of a run's resolved configuration.
        overrides: of the user, `section.key=value`.

    Raises:
        ConfigError: if they do not fit together.
    """
    config, again = load_config(path, overrides), {}
    if config.parallel == "auto":
        return []
    parallel = config.chosen_parallel
    keys = [parse_key(override.partition("=")[0]) for override in overrides]
    given = {key[1] for key in keys if key[:1] == ("parallel",) and len(key) > 1}
    if given & {"stages", "schedule", "virtual_stages"} and isinstance(parallel.partition, tuple):
        again["partition"] = "balanced"
    if given & {"stages", "schedule"}:
        again["virtual_stages"] = "auto"
    slices = parallel.data_parallel * (1 if parallel.micro_batches == "auto" else parallel.micro_batches)
    if given & {"stages", "data_parallel"} and config.training.global_batch_size % slices:
        again["micro_batches"] = "auto"
    return [f"parallel.{name}={value}" for name, value in again.items() if name not in given]


def configuration_to_go_on(run_dir: Path, overrides: Sequence[str]) -> tuple[RunConfig, list[str]]:
    """What a run goes on with, and what was chosen anew for another grid.

    Keys that may not change are refused here, before data are read, which may take long. Those of section `data` are
    known only after that.

    Args:
        run_dir: of the run.
        overrides: of the user, `section.key=value`.

    Raises:
        ConfigError: if they do not fit or may not change, or the folder is a checkpoint.
    """
    refuse_checkpoint(run_dir)
    path, own = run_dir / CONFIG_FILE, [*overrides, f"run.dir={run_dir.absolute()}"]
    asked = load_config(path, overrides)
    if asked.run.dir != "auto" and Path(asked.run.dir).expanduser().resolve() != run_dir.resolve():
        raise ConfigError(
            f"run.dir={asked.run.dir}: a run goes on in its own folder, {run_dir}; leave run.dir out, "
            f"or copy the folder and resume the copy"
        )
    _refuse(run_dir, differences(load_config(path), asked, decided=False)[1])
    again = chosen_again(path, own)
    return load_config(path, [*own, *again]), again


def tidy(run_dir: Path, step: int) -> list[str]:
    """Remove what an interrupted save left, and lines of metrics.jsonl that will be written again; newer checkpoints,
    which were passed over, are set aside, so that those which this run writes take their place.

    Args:
        run_dir: of a run that goes on.
        step: after which it does.

    Returns:
        For the user, where each of those is now.
    """
    for left in leftovers(run_dir / FOLDER):
        remove(left)
    newer = [saved for saved in saved_steps(run_dir / FOLDER) if saved > step]
    kept = [
        f"checkpoint of step {each} is kept as {set_aside(run_dir / FOLDER / step_folder(each))}, yours to delete"
        for each in newer
    ]
    if newer and step:
        point_to(run_dir / FOLDER, step)
    path = run_dir / METRICS_FILE
    if path.is_file():
        lines = path.read_text(encoding="utf-8").splitlines(keepends=True)
        replace_text(path, "".join(line for line in lines if _stays(line, step)))
    return kept


def _stays(line: str, step: int) -> bool:
    try:
        entry = json.loads(line)
        return line.endswith("\n") and entry["step"] <= step and entry["split"] != "test"
    except (ValueError, KeyError, TypeError):
        return False  # a line that a killed run did not finish


def refuse_checkpoint(run_dir: Path) -> None:
    """A checkpoint looks like a run from which one could go on, and would be damaged by it; so would a trained model.

    Raises:
        ConfigError: naming the run that it belongs to.
    """
    if (run_dir / MANIFEST_FILE).is_file():
        if run_dir.name == MODEL_FOLDER:
            raise ConfigError(f"{run_dir}: is a trained model, not a run; its run is {run_dir.parent}")
        raise ConfigError(
            f"{run_dir}: is a checkpoint, not a run; its run, {run_dir.parent.parent}, goes on after the newest one"
        )


def holds_run(run_dir: Path) -> bool:
    """Whether a run has begun there."""
    return (run_dir / CONFIG_FILE).is_file()
