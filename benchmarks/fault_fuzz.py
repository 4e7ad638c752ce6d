"""Made-up configurations and manifests: what they say, or an error with a message; never anything else.

structure   values of any kind at the keys of the schema        texts   shipped and written files, a few bytes changed
overrides   `key=value` with anything in it                     every 20th by the command: exit codes are promised ones
"""

import json
import random
import resource
import signal
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any

from cases import CONFIGS
from click.testing import Result
from fault_record import Record, Row, say
from rich.table import Table
from typer.testing import CliRunner

from pipemlp.checkpoint.folder import step_folder
from pipemlp.checkpoint.manifest import MANIFEST_FILE, FileEntry, Manifest, parse_manifest
from pipemlp.cli.app import app
from pipemlp.config.errors import ConfigError, ModelFileError, UserError
from pipemlp.config.loading import load_config
from pipemlp.config.structure import known_keys

PART = "fuzz"
HANG_SECONDS = 20.0
"""For one input that takes milliseconds."""
BY_COMMAND = 20
PROMISED = (0, 2, 3, 4, 5)
MOST_BYTES = 16 * 2**30
"""Of memory: what asks for more is an error, and not the end of other processes."""
STEP = 7
NAMES = ("auto", "sgd", "huber", "gated", "teacher", "step", "mse", "name", "width", "train", "digits", "", "a.yaml")
NUMBERS = (0, -1, 1, 2, 2**31, 2**63, 2**64, 10**80, 0.5, -0.0, 1e308, float("nan"), float("inf"))
TEXTS = (
    "\0",
    "\n",
    "é",
    "\u202e",
    "!!python/object:os.system",
    "${HOME}",
    "../..",
    "/",
    "~",
    "*a",
    "&a",
    "<<",
    "1e5",
    "0x1",
)
SPLICES = (
    *TEXTS,
    "{",
    "}",
    "[",
    "]",
    ":",
    ": ",
    "- ",
    "#",
    "'",
    '"',
    "|",
    ">",
    "\t",
    "---\n",
    "%YAML 1.1\n",
    "? ",
    ",",
)
MANIFEST = Manifest(
    STEP, 2, 2, False, {"layer-00001.replica-0.safetensors": FileEntry(12, "ab" * 32)}, {"precision": "fp32"}
)


@contextmanager
def within_memory() -> Iterator[None]:
    """While it lasts, this process has a bound."""
    before = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (MOST_BYTES, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, before)


class HangError(BaseException):
    """No answer in time; nobody catches it by mistake."""


@contextmanager
def bounded() -> Iterator[None]:
    """An input that takes too long is an error of its own."""

    def late(signum: int, frame: FrameType | None) -> None:
        raise HangError

    previous = signal.signal(signal.SIGALRM, late)
    signal.setitimer(signal.ITIMER_REAL, HANG_SECONDS)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0.0)
        signal.signal(signal.SIGALRM, previous)


class Inputs:
    """Made up by a seed.

    Args:
        seed: of all.
    """

    def __init__(self, seed: int) -> None:
        self._chance = random.Random(seed)
        self._keys = sorted({key for key, _ in known_keys()})
        shipped = (path.read_bytes() for path in sorted(CONFIGS.glob("**/*.yaml")))
        self._configs = [text for text in shipped if b"extends" not in text]  # whose parents lie elsewhere

    def value(self, depth: int = 0) -> Any:
        """Of any kind, and not deep."""
        chance = self._chance
        kind = chance.randrange(8 if depth < 3 else 6)
        if kind == 6:
            return [self.value(depth + 1) for _ in range(chance.randrange(4))]
        if kind == 7:
            return {self.text(): self.value(depth + 1) for _ in range(chance.randrange(4))}
        return (None, chance.random() < 0.5, chance.randint(-3, 3), chance.choice(NUMBERS), self.text(), self.text())[
            kind
        ]

    def text(self) -> str:
        """A name that may be known, or what may hurt."""
        chance = self._chance
        if chance.random() < 0.5:
            return chance.choice(NAMES)
        return "".join(chance.choice((*TEXTS, *map(chr, range(32, 127)))) for _ in range(chance.randrange(8)))

    def bent(self, data: bytes) -> bytes:
        """A file with a few bytes gone, doubled, or put in."""
        chance, found = self._chance, bytearray(data)
        for _ in range(chance.randint(1, 4)):
            at = chance.randrange(len(found) + 1)
            length = chance.randint(1, 12)
            change = chance.randrange(4)
            if change == 0:
                del found[at : at + length]
            elif change == 1:
                found[at:at] = found[at : at + length]
            elif change == 2:
                found[at:at] = chance.choice(SPLICES).encode()
            elif at < len(found):
                found[at] ^= 1 << chance.randrange(8)
        return bytes(found)

    def structured_config(self) -> tuple[bytes, list[str]]:
        """Values at keys, over a small good one."""
        values: dict[str, Any] = {"data": {"source": "digits"}, "model": {"hidden": [8]}}
        for _ in range(self._chance.randint(1, 3)):
            *outer, last = self._chance.choice(self._keys)
            inside = values
            for part in outer:
                if not isinstance(inside.get(part), dict):
                    inside[part] = {}
                inside = inside[part]
            inside[last] = self.value()
        return yaml_of(values).encode(), []

    def bent_config(self) -> tuple[bytes, list[str]]:
        """A shipped one."""
        return self.bent(self._chance.choice(self._configs)), []

    def overridden_config(self) -> tuple[bytes, list[str]]:
        """A small good one, with anything on the command line."""
        chance, overrides = self._chance, []
        for _ in range(chance.randint(1, 3)):
            key = ".".join(chance.choice(self._keys)) if chance.random() < 0.8 else self.text()
            value = yaml_of(self.value()) if chance.random() < 0.6 else self.text()
            overrides.append(f"{key}={value}" if chance.random() < 0.95 else self.text())
        return b"data: {source: digits}\nmodel: {hidden: [8]}\n", overrides

    def structured_manifest(self) -> bytes:
        """Values at keys of a good one."""
        value = json.loads(MANIFEST.to_text())
        for _ in range(self._chance.randint(1, 3)):
            inside = self._chance.choice((value, value, value.get("files"), value.get("facts")))
            if isinstance(inside, dict):
                inside[self._chance.choice((*inside, self.text()))] = self.value()
        return json.dumps(value).encode()

    def bent_manifest(self) -> bytes:
        """A good one."""
        return self.bent(MANIFEST.to_text().encode())


def yaml_of(value: object) -> str:
    """JSON is YAML but for the names of numbers that are not finite."""
    text = json.dumps(value)
    for name, own in (("-Infinity", "-.inf"), ("Infinity", ".inf"), ("NaN", ".nan")):
        text = text.replace(name, own)
    return text


def run_fuzz(record: Record, folder: Path, num_inputs: int, seed: int) -> Table:
    """Try all kinds in turn.

    Args:
        record: takes a row for every kind, with the first inputs that were answered badly.
        folder: for files.
        num_inputs: of all kinds together.
        seed: of what is made up.
    """
    inputs = Inputs(seed)
    file, manifest_folder = folder / "a.yaml", folder / step_folder(STEP)
    manifest_folder.mkdir()

    def config(made: tuple[bytes, list[str]], by_command: bool) -> str:
        content, overrides = made
        file.write_bytes(content)
        if by_command:
            return _by_command(["train", str(file), *_no_options(overrides), "--print-command"])
        return _answer(lambda: load_config(file, overrides), ConfigError)

    def manifest(made: bytes, by_command: bool) -> str:
        if by_command:
            (manifest_folder / MANIFEST_FILE).write_bytes(made)
            return _by_command(["checkpoint", "inspect", str(manifest_folder)])
        return _answer(lambda: parse_manifest(made.decode(errors="replace"), "here"), ModelFileError)

    kinds: dict[str, tuple[Callable[[], Any], Callable[[Any, bool], str]]] = {
        "configs: any value at any key": (inputs.structured_config, config),
        "configs: shipped ones, bytes changed": (inputs.bent_config, config),
        "configs: anything on the command line": (inputs.overridden_config, config),
        "manifests: any value at any key": (inputs.structured_manifest, manifest),
        "manifests: bytes changed": (inputs.bent_manifest, manifest),
    }
    with within_memory():
        for kind, (make, ask) in kinds.items():
            record.add(PART, _kind(kind, make, ask, num_inputs // len(kinds)))
    return _table(record)


def _kind(kind: str, make: Callable[[], Any], ask: Callable[[Any, bool], str], num_inputs: int) -> Row:
    answers: dict[str, int] = {}
    bad: list[dict[str, str]] = []
    for index in range(num_inputs):
        made = make()
        try:
            with bounded():
                answer = ask(made, index % BY_COMMAND == 0)
        except HangError:
            answer = f"BAD: no answer in {HANG_SECONDS:g} s"
        except Exception:  # noqa: BLE001 - whatever it is, it is what is looked for
            answer = "BAD: " + traceback.format_exc().strip().splitlines()[-1]
            bad.append({"input": repr(made), "traceback": traceback.format_exc()[-1500:]})
        if answer.startswith("BAD"):
            bad.append({"input": repr(made), "answer": answer})
        key = answer.split("\n")[0][:80]
        answers[key] = answers.get(key, 0) + 1
        if (index + 1) % 1000 == 0:
            say(f"  {kind}: {index + 1} of {num_inputs}, {len(bad)} answered badly")
    problem = f"{len(bad)} answered badly" if bad else None
    return {"kind": kind, "inputs": num_inputs, "answers": answers, "bad": bad[:10], "problem": problem}


def _answer(call: Callable[[], object], expected: type[UserError]) -> str:
    """Any other exception goes on."""
    try:
        call()
    except expected as error:
        return "refused" if error.messages and all(error.messages) else "BAD: refused without a message"
    return "taken"


def _by_command(arguments: Sequence[str]) -> str:
    """As `pipemlp` ends, in this process."""
    result: Result = CliRunner().invoke(app, list(arguments))
    error = result.exception
    code = error.exit_code if isinstance(error, UserError) else result.exit_code
    if isinstance(error, HangError):
        raise error
    if error is not None and not isinstance(error, UserError | SystemExit):
        raise error
    return f"exit code {code}" if code in PROMISED else f"BAD: exit code {code}"


def _no_options(overrides: Sequence[str]) -> list[str]:
    """Without those that would be options, of which some train."""
    return [each for each in overrides if not each.startswith("-")]


def _table(record: Record) -> Table:
    table = Table("made up", "inputs", "answers", "answered badly", title="fuzz")
    for row in (each for each in record.new if each["part"] == PART):
        answers = ", ".join(f"{answer} {count}" for answer, count in sorted(row["answers"].items()))
        table.add_row(row["kind"], f"{row['inputs']:,}", answers, row["problem"] or "none")
    return table
