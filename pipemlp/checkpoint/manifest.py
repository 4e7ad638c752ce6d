"""The manifest of a checkpoint or trained model: what belongs to it, to the byte. Without its own, it is none.

MANIFEST.json
    format, step, stages, replicas, apart      what was saved, and by how many
    files: {name: {bytes, sha256}}             every other file of the folder
    facts: {name: text}                        what it was saved of: model, data, cut, precision, plug-ins, versions
    sha256                                     of all this: a bit that has changed in it is noticed too
"""

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from pipemlp.config.errors import ModelFileError

MANIFEST_FILE = "MANIFEST.json"
FORMAT = 1
"""Version of the layout of a checkpoint; raised when it changes."""
CHECK = "sha256"
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,199}")
_HASH = re.compile(r"[0-9a-f]{64}")
_COUNTS = ("step", "num_stages", "num_replicas")


@dataclass(frozen=True)
class FileEntry:
    """A file as it was written: its size in bytes, and its SHA-256 in hexadecimal digits."""

    num_bytes: int
    sha256: str


@dataclass(frozen=True)
class Manifest:
    """All there is to a checkpoint, or to a trained model.

    Args:
        step: optimizer steps done.
        num_stages, num_replicas: of the run that saved it.
        is_apart: whether each replica saved weights of its own, as local updates have them.
        files: by name.
        facts: what was saved, by name, for the user and for comparison.
    """

    step: int
    num_stages: int
    num_replicas: int
    is_apart: bool
    files: Mapping[str, FileEntry]
    facts: Mapping[str, str] = field(default_factory=dict)

    @property
    def num_bytes(self) -> int:
        """Of all files but the manifest."""
        return sum(entry.num_bytes for entry in self.files.values())

    def to_text(self) -> str:
        """As the file has it."""
        value: dict[str, object] = {
            "format": FORMAT,
            "step": self.step,
            "num_stages": self.num_stages,
            "num_replicas": self.num_replicas,
            "is_apart": self.is_apart,
            "facts": dict(self.facts),
            "files": {
                name: {"bytes": entry.num_bytes, "sha256": entry.sha256} for name, entry in sorted(self.files.items())
            },
        }
        return json.dumps({**value, CHECK: _digest(value)}, indent=1) + "\n"


def _digest(value: Mapping[str, object]) -> str:
    """SHA-256 of what the manifest says, however it is laid out."""
    own = {name: inner for name, inner in value.items() if name != CHECK}
    return hashlib.sha256(json.dumps(own, sort_keys=True).encode()).hexdigest()


def parse_manifest(text: str, where: str) -> Manifest:
    """The manifest in a text; nothing in it is taken on trust.

    Args:
        text: of the file.
        where: its path, for messages.

    Raises:
        ModelFileError: saying what is wrong with it.
    """
    try:
        value = json.loads(text)
        digest = _digest(value) if isinstance(value, dict) else ""
    except (ValueError, RecursionError) as error:
        raise ModelFileError(f"{where}: damaged: it is no JSON") from error
    if not isinstance(value, dict) or not isinstance(value.get("format"), int):
        raise ModelFileError(f"{where}: damaged: it is no manifest")
    if value["format"] > FORMAT:
        raise ModelFileError(f"{where}: format {value['format']}, this version reads up to {FORMAT}; upgrade pipemlp")
    for name in _COUNTS:
        number = value.get(name)
        if not _is_count(number) or (name != "step" and number == 0):
            raise ModelFileError(f"{where}: damaged: {name} is {_shown(number)}")
    if not isinstance(value.get("is_apart"), bool):
        raise ModelFileError(f"{where}: damaged: is_apart is {_shown(value.get('is_apart'))}")
    facts = value.get("facts")
    if not isinstance(facts, dict) or not all(isinstance(fact, str) for fact in facts.values()):
        raise ModelFileError(f"{where}: damaged: facts are no texts by name")
    files = value.get("files")
    if not isinstance(files, dict) or not files:
        raise ModelFileError(f"{where}: damaged: it lists no files")
    entries = {name: _entry(name, entry, where) for name, entry in files.items()}
    if value.get(CHECK) != digest:
        raise ModelFileError(f"{where}: damaged: its content is not what was written (SHA-256 differs)")
    return Manifest(
        step=value["step"],
        num_stages=value["num_stages"],
        num_replicas=value["num_replicas"],
        is_apart=value["is_apart"],
        files=entries,
        facts=facts,
    )


def _entry(name: str, value: object, where: str) -> FileEntry:
    """One file of the list; a name is that of a file in the same folder, and nothing else."""
    if not _NAME.fullmatch(name) or name == MANIFEST_FILE:
        raise ModelFileError(f"{where}: damaged: {_shown(name)} is no name of a file in this folder")
    if isinstance(value, dict):
        num_bytes, sha256 = value.get("bytes"), value.get("sha256")
        if isinstance(num_bytes, int) and _is_count(num_bytes) and isinstance(sha256, str) and _HASH.fullmatch(sha256):
            return FileEntry(num_bytes, sha256)
    raise ModelFileError(f"{where}: damaged: {name} has no size with a SHA-256")


def _is_count(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0


def _shown(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."


def fact(value: Sequence[object]) -> str:
    """A value as a text that can be compared."""
    return json.dumps(list(value))


def hashed(path: Path) -> FileEntry:
    """Size and SHA-256 of a file.

    Raises:
        OSError: if it cannot be read.
    """
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
        return FileEntry(file.tell(), digest)
