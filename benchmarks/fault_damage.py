"""Every file of a checkpoint damaged in every way: it is noticed, and the one before is taken.

damage -> `checkpoint verify` ends with 4, the newest whole one is the older, the reason names the file
a few  -> `pipemlp resume` says so, goes on after the older one, and has the bits of the undisturbed run
"""

import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path

from fault_record import Record, Row, say
from fault_runs import await_marker, difference, ends, resumed, resumed_from, start, struck, undisturbed, write_config
from rich.table import Table
from typer.testing import CliRunner

# isort: split
from damage import OF_ANY_FILE, Damage, flipped  # of the tests, to whose folder fault_runs leads

from pipemlp.checkpoint.folder import FOLDER, POINTER, newest_whole, saved_steps, step_folder
from pipemlp.checkpoint.manifest import FORMAT, MANIFEST_FILE
from pipemlp.cli.app import app
from pipemlp.config.errors import ModelFileError

PART = "damage"
NAME = "struck"


def newer(path: Path) -> None:
    """A manifest of a later version of the product."""
    path.write_text(path.read_text().replace(f'"format": {FORMAT}', f'"format": {FORMAT + 1}'))


def of_another_step(path: Path) -> None:
    """The manifest of the checkpoint before."""
    shutil.copyfile(_before(path.parent) / MANIFEST_FILE, path)


def files_of_another_step(path: Path) -> None:
    """A file of the checkpoint before, under the manifest of this one."""
    shutil.copyfile(_before(path.parent) / path.name, path)


def _before(checkpoint: Path) -> Path:
    return checkpoint.parent / step_folder(saved_steps(checkpoint.parent)[-2])


OF_THE_MANIFEST: Mapping[str, Damage] = {"another step's": of_another_step, "a newer format": newer}
RESUMED = ("training.json truncated", "layer-00002.replica-0.safetensors bit flipped", f"{MANIFEST_FILE} deleted")
"""By `pipemlp resume` too, each a start of three processes."""


def damages(checkpoint: Path) -> Iterator[tuple[Path, str, Damage]]:
    """All that is tried: a file, in what way, and the damage, which is done to its copy."""
    for path in sorted(checkpoint.iterdir()):
        for kind, damage in OF_ANY_FILE.items():
            if path.name != MANIFEST_FILE or kind != "bit flipped":  # all bits of that one come below
                yield path, kind, damage
        if path.name != MANIFEST_FILE and (_before(checkpoint) / path.name).read_bytes() != path.read_bytes():
            yield path, "another step's", files_of_another_step
    manifest = checkpoint / MANIFEST_FILE
    yield from ((manifest, kind, damage) for kind, damage in OF_THE_MANIFEST.items())
    for byte in range(manifest.stat().st_size):
        for bit in range(8):
            yield manifest, f"bit {bit} of byte {byte} flipped", _flip(byte, bit)


def _flip(byte: int, bit: int) -> Damage:
    return lambda copy: flipped(copy, byte, bit)


def run_damage(record: Record, folder: Path, num_resumed: int, every: int) -> Table:
    """Damage one file after the other in a copy of what a killed run left.

    Args:
        record: takes a row for every file and damage; one for all bits of the manifest.
        folder: for the runs.
        num_resumed: how many go on by `pipemlp resume` too.
        every: so many bits of the manifest are left out.
    """
    write_config(folder, 3, steps=24, evaluate=5, save=4, log=1)
    undisturbed(folder)
    _die(folder)
    original = folder / NAME / FOLDER
    newest = original / step_folder(saved_steps(original)[-1])
    bits: list[Row] = []
    for index, (path, kind, damage) in enumerate(damages(newest)):
        is_bit = kind.startswith("bit ") and kind != "bit flipped"
        if is_bit and index % every:
            continue
        row = {"file": path.name, "kind": kind, "problem": _unnoticed(folder, original, path, damage, not is_bit)}
        if is_bit:
            bits.append(row)
        else:
            record.add(PART, row)
    unnoticed = [row for row in bits if row["problem"] is not None]
    problem = f"{len(unnoticed)} of {len(bits)}: {unnoticed[:5]}" if unnoticed else None
    record.add(PART, {"file": MANIFEST_FILE, "kind": "any bit flipped", "tried": len(bits), "problem": problem})
    record.add(
        PART, {"file": POINTER, "kind": "deleted, empty, or naming nothing", "problem": _pointer(folder, original)}
    )
    chosen = [each for each in damages(newest) if f"{each[0].name} {each[1]}" in RESUMED[:num_resumed]]
    for path, kind, damage in chosen:
        say(f"  pipemlp resume with {path.name} {kind} ...")
        record.add(PART, {"file": path.name, "kind": f"{kind}, resumed", "problem": _resume(folder, path, damage)})
    return _table(record)


def _die(folder: Path) -> None:
    """A run that is killed near its end, and leaves two checkpoints."""
    started = start(folder, NAME, "SIGKILL rank=1 at=forward step=23")
    try:
        if not await_marker(started, struck(folder, NAME)) or not ends(started, 60.0):
            raise RuntimeError(f"the run was not struck:\n{started.printed}")
    finally:
        started.end()


def _copied(folder: Path, original: Path) -> Path:
    copy = folder / "copy" / FOLDER
    shutil.rmtree(copy.parent, ignore_errors=True)
    shutil.copytree(original, copy)
    return copy


def _unnoticed(folder: Path, original: Path, path: Path, damage: Damage, verifies: bool) -> str | None:
    """What of it was not noticed; through the command too where `verifies`."""
    copy = _copied(folder, original)
    older, newest = saved_steps(copy)[-2:]
    damaged = copy / path.parent.name / path.name
    before = damaged.read_bytes()
    damage(damaged)
    found, passed = newest_whole(copy)
    if found is None or found.manifest.step != older:
        is_same = damaged.is_file() and before != damaged.read_bytes() and found is not None
        return f"step {None if found is None else found.manifest.step} was taken{' all the same' if is_same else ''}"
    if [each.step for each in passed] != [newest] or path.parent.name not in passed[0].reason:
        return f"passed over: {passed}"
    if verifies:
        done = CliRunner().invoke(app, ["checkpoint", "verify", str(copy / step_folder(newest))])
        if done.exit_code != ModelFileError.exit_code:
            return f"checkpoint verify ended with {done.exit_code}"
    return None


def _pointer(folder: Path, original: Path) -> str | None:
    """`latest` is for people: whatever it says, the newest whole one is taken."""
    for text in (None, "", "step-999999\n", "../../elsewhere\n"):
        copy = _copied(folder, original)
        (copy / POINTER).unlink()
        if text is not None:
            (copy / POINTER).write_text(text)
        found, passed = newest_whole(copy)
        if found is None or passed or found.manifest.step != saved_steps(copy)[-1]:
            return f"with {text!r} in it, another one was taken"
    return None


def _resume(folder: Path, path: Path, damage: Damage) -> str | None:
    name = "resumed"
    shutil.rmtree(folder / name, ignore_errors=True)
    shutil.copytree(folder / NAME, folder / name)
    checkpoints = folder / name / FOLDER
    older, newest = saved_steps(checkpoints)[-2:]
    damage(checkpoints / path.parent.name / path.name)
    try:
        printed = resumed(folder, name)
    except AssertionError as error:
        return f"it does not go on: {str(error)[-2000:]}"
    if f"checkpoint of step {newest} passed over" not in printed or resumed_from(printed) != older:
        return f"it was not said: {printed}"
    return difference(folder, name)


def _table(record: Record) -> Table:
    own = [row for row in record.new if row["part"] == PART]
    kinds = list(dict.fromkeys(row["kind"] for row in own))
    table = Table("damage", "files", "noticed", title="damage")
    for kind in kinds:
        rows = [row for row in own if row["kind"] == kind]
        tried = sum(row.get("tried", 1) for row in rows)
        missed = [row["file"] for row in rows if row["problem"] is not None]
        table.add_row(kind, str(tried), "all" if not missed else f"NOT: {', '.join(missed)}")
    return table
