"""A checkpoint is there whole or not at all, wherever its writing ends."""

import os
import shutil
import threading
from pathlib import Path
from types import SimpleNamespace

import pytest
from damage import bit_flipped, deleted, emptied, linked, open_to_all, piped, swapped, truncated
from safetensors import SafetensorError

from pipemlp.checkpoint.commit import Writing, commit, prune
from pipemlp.checkpoint.folder import check_whole, leftovers, newest_whole, remove, saved_steps, set_aside
from pipemlp.checkpoint.manifest import MANIFEST_FILE, Manifest
from pipemlp.config.errors import ModelFileError


class Threads:
    """Ranks that are threads."""

    def __init__(self, num_ranks: int) -> None:
        self.given = [None] * num_ranks
        self.barrier = threading.Barrier(num_ranks, timeout=20)

    def rank(self, number: int):
        threads = self

        class Rank:
            rank = number

            def everyone(self, value):
                threads.given[number] = value
                threads.barrier.wait()
                found = list(threads.given)
                threads.barrier.wait()
                return found

        return Rank()


def manifest_of(step):
    return lambda files: Manifest(step, 1, 1, False, files)


FULL = OSError(28, "No space left on device")


def writing(number: int, text: str = "text", fails: Exception | None = None, num_bytes: int = 10) -> Writing:
    def write(directory: Path) -> list[str]:
        if fails is not None:
            raise fails
        (directory / f"layer-{number}").write_text(text)
        return [f"layer-{number}"]

    return Writing(num_bytes, write)


def save(folder, step, doing=lambda text: None, num_ranks=1, **of_rank_1):
    """Save by threads; the error of every rank, or None."""
    threads, errors = Threads(num_ranks), [None] * num_ranks

    def run(number):
        own = writing(number, f"step {step}", **(of_rank_1 if number == num_ranks - 1 else {}))
        try:
            commit(folder, step, own, manifest_of(step), threads.rank(number), doing if number == 0 else print)
        except Exception as error:
            errors[number] = error

    ranks = [threading.Thread(target=run, args=(number,)) for number in range(num_ranks)]
    for rank in ranks:
        rank.start()
    for rank in ranks:
        rank.join(timeout=30)
    return errors


def test_all_ranks_write_one_checkpoint(tmp_path):
    folder = tmp_path / "checkpoints"
    assert save(folder, 10, num_ranks=3) == [None] * 3
    checkpoint = check_whole(folder / "step-10")
    assert set(checkpoint.manifest.files) == {"layer-0", "layer-1", "layer-2"}
    assert (folder / "latest").read_text() == "step-10\n"
    assert not list(leftovers(folder))


FAILURES = {
    "the system's": (FULL, "[Errno 28] No space left on device"),
    "safetensors', on a full disk": (SafetensorError("Error while serializing"), "Error while serializing"),
    "a bug": (KeyError("weight"), "KeyError: 'weight'"),
}


@pytest.mark.parametrize("name", FAILURES)
def test_an_error_on_one_rank_is_everybodys(name, tmp_path):
    """Whatever it is: who did not tell it would keep the others waiting for ever."""
    failure, message = FAILURES[name]
    save(tmp_path, 10, num_ranks=2)
    errors = save(tmp_path, 20, num_ranks=2, fails=failure)
    (text,) = {str(error) for error in errors}
    assert text.startswith("checkpoint of step 20: rank 1 could not write it: ") and text.endswith(message)
    assert saved_steps(tmp_path) == [10] and not list(leftovers(tmp_path))
    assert newest_whole(tmp_path)[0].manifest.step == 10


def test_space_is_looked_for_before(tmp_path):
    (error,) = save(tmp_path, 10, num_bytes=2**60)
    assert "MiB are needed" in str(error) and "MiB are free" in str(error)
    assert saved_steps(tmp_path) == []


def test_space_is_looked_for_as_much_as_all_ranks_need(tmp_path, monkeypatch):
    """Room for any one of them, not for both."""
    monkeypatch.setattr(shutil, "disk_usage", lambda path: SimpleNamespace(free=15))  # bytes; each writes 10
    errors = save(tmp_path, 10, num_ranks=2)
    assert all("MiB are needed" in str(error) for error in errors) and len(errors) == 2


class Killed(BaseException):
    """As a signal: nobody catches it."""


POINTS = [
    "checkpoint 20: making a folder",
    "checkpoint 20: writing",
    "checkpoint 20: before the rename",
    "checkpoint 20: before the pointer",
]


@pytest.mark.parametrize("point", POINTS)
def test_whoever_is_killed_leaves_a_whole_one(point, tmp_path):
    """Whatever was done before the point is on the disk, and nothing after it."""
    save(tmp_path, 10)

    def doing(text):
        if text == point:
            raise Killed

    with pytest.raises(Killed):
        commit(tmp_path, 20, writing(0, "step 20"), manifest_of(20), Threads(1).rank(0), doing)
    found, passed = newest_whole(tmp_path)
    assert passed == []
    assert found.manifest.step == (20 if point.endswith("pointer") else 10)
    for left in leftovers(tmp_path):
        remove(left)
    assert save(tmp_path, 20) == [None]
    assert newest_whole(tmp_path)[0].manifest.step == 20 and not list(leftovers(tmp_path))


def test_pruning_keeps_the_newest_and_the_best(tmp_path):
    for step in (10, 20, 30, 40):
        save(tmp_path, step)
    prune(tmp_path, 40, 2, 10, lambda text: None)
    assert saved_steps(tmp_path) == [10, 30, 40]


def test_pruning_looks_at_what_this_run_has_written_only(tmp_path):
    """Damaged ones of later steps, passed over when the run went on, must not push out the whole ones."""
    for step in (10, 20, 100, 110):
        save(tmp_path, step)
    for step in (100, 110):
        (tmp_path / f"step-{step}" / "layer-0").unlink()
    prune(tmp_path, 20, 2, None, lambda text: None)
    assert saved_steps(tmp_path) == [10, 20, 100, 110]


def test_set_aside_it_counts_no_more(tmp_path):
    for step in (10, 20):
        save(tmp_path, step)
    assert set_aside(tmp_path / "step-20") == tmp_path / "passed-over-20"
    save(tmp_path, 20)
    assert set_aside(tmp_path / "step-20") == tmp_path / "passed-over-20.2"  # the one before stays
    assert saved_steps(tmp_path) == [10] and (tmp_path / "passed-over-20" / "layer-0").read_text() == "step 20"
    assert newest_whole(tmp_path)[1] == [] and not list(leftovers(tmp_path))


def test_a_killed_pruning_leaves_no_half_of_one(tmp_path, monkeypatch):
    for step in (10, 20, 30):
        save(tmp_path, step)

    def killed(path):
        (path / "layer-0").unlink()
        raise Killed

    monkeypatch.setattr(shutil, "rmtree", killed)
    with pytest.raises(Killed):
        prune(tmp_path, 30, 2, None, lambda text: None)
    monkeypatch.undo()
    assert saved_steps(tmp_path) == [20, 30] and newest_whole(tmp_path)[1] == []
    assert [left.name for left in leftovers(tmp_path)] == [".removing-10"]


DAMAGE = {
    "truncated": (lambda d: truncated(d / "layer-0"), "4 bytes, written were 6"),
    "emptied": (lambda d: emptied(d / "layer-0"), "0 bytes, written were 6"),
    "deleted": (lambda d: deleted(d / "layer-0"), "missing; all files that MANIFEST.json lists are needed"),
    "a bit flipped": (lambda d: bit_flipped(d / "layer-0"), "its content is not what was written"),
    "swapped": (lambda d: swapped(d / "layer-0"), "its content is not what was written"),
    "a link": (lambda d: linked(d / "layer-0"), "is a symbolic link"),
    "open to everybody": (lambda d: open_to_all(d / "layer-0"), "everybody may write it"),
    "a pipe": (lambda d: piped(d / "layer-0"), "is no file"),
    "manifest a pipe": (lambda d: piped(d / MANIFEST_FILE), "is no file"),
    "manifest gone": (lambda d: deleted(d / MANIFEST_FILE), "MANIFEST.json is missing"),
    "manifest cut": (lambda d: (d / MANIFEST_FILE).write_text('{"format": 1'), "it is no JSON"),
    "manifest of another step": (
        lambda d: shutil.copy(d.parent / "step-10" / MANIFEST_FILE, d / MANIFEST_FILE),
        "it is the manifest of step 10",
    ),
    "a newer format": (
        lambda d: (d / MANIFEST_FILE).write_text((d / MANIFEST_FILE).read_text().replace('"format": 1', '"format": 9')),
        "format 9, this version reads up to 1; upgrade pipemlp",
    ),
    "the folder a link": (lambda d: (d.rename(d.parent / "x"), d.symlink_to(d.parent / "x")), "is a symbolic link"),
}


@pytest.mark.parametrize("kind", DAMAGE)
def test_a_damaged_one_is_passed_over_with_its_reason(kind, tmp_path):
    save(tmp_path, 10, num_ranks=2)
    threads = Threads(2)
    pair = [
        threading.Thread(
            target=commit,
            args=(tmp_path, 20, writing(n, f"step {n}"), manifest_of(20), threads.rank(n), lambda text: None),
        )
        for n in range(2)
    ]
    for each in pair:
        each.start()
    for each in pair:
        each.join()
    damage, message = DAMAGE[kind]
    damage(tmp_path / "step-20")
    found, passed = newest_whole(tmp_path)
    assert found.manifest.step == 10
    assert [each.step for each in passed] == [20] and message in passed[0].reason


def test_a_foreign_owner_is_refused(tmp_path, monkeypatch):
    save(tmp_path, 10)
    monkeypatch.setattr("os.geteuid", lambda: 12345)
    (tmp_path / "step-10" / "layer-0").lstat()
    real = Path.lstat

    class Status:
        st_uid, st_mode = 4711, 0o100644

    monkeypatch.setattr(Path, "lstat", lambda self: Status() if self.name == "layer-0" else real(self))
    with pytest.raises(ModelFileError, match="belongs to another user \\(uid 4711\\)"):
        check_whole(tmp_path / "step-10")


@pytest.mark.parametrize("mask", [0o000, 0o022, 0o077])
def test_a_checkpoint_is_read_by_whoever_its_folder_says_and_written_by_nobody_else(mask, tmp_path):
    before = os.umask(mask)
    try:
        save(tmp_path, 10)
    finally:
        os.umask(before)
    assert newest_whole(tmp_path)[0].manifest.step == 10
    wanted = 0o664 & ~mask
    assert {path.stat().st_mode & 0o777 for path in (tmp_path / "step-10").iterdir()} == {wanted}


def test_another_spelling_of_a_step_is_none(tmp_path):
    (tmp_path / "step-0070").mkdir()
    assert saved_steps(tmp_path) == []
