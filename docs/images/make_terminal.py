"""Draws docs/images/terminal.svg: `validate` and `train` on configs/digits.yaml, as a terminal shows them.

    python docs/images/make_terminal.py

runs both commands in a temporary folder. A line `...` stands for lines that were left out; a line too long for the
picture ends in three dots.
"""

import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from rich.console import Console
from rich.text import Text

ROOT = Path(__file__).parents[2]
PICTURE = Path(__file__).with_name("terminal.svg")
WIDTH = 118
COMMANDS = (
    "pipemlp validate configs/digits.yaml",
    "pipemlp train configs/digits.yaml run.dir=runs/first",
)
SHOWN_EVALUATIONS = (1, 2)
"""How many of the validation lines are shown, at the start and at the end."""


def output_of(command: str, folder: Path) -> list[str]:
    """The lines that a command prints, with paths relative to the folder it runs in."""
    arguments = [sys.executable, "-m", *command.split()]
    environment = os.environ | {"COLUMNS": str(WIDTH + len(str(folder))), "PYTHONPATH": str(ROOT)}
    done = subprocess.run(arguments, cwd=folder, env=environment, capture_output=True, text=True, check=True)
    return list(relative([line.rstrip() for line in done.stdout.splitlines()], f"{folder}/"))


def relative(lines: list[str], prefix: str) -> Iterator[str]:
    """Lines without the folder's path, and the frame of the table drawn in as far as its rows allow."""
    rows = {line: line[:-1].replace(prefix, "").rstrip() + " " for line in lines if line.startswith("│")}
    width = max(map(len, rows.values()), default=0)
    for line in lines:
        if line in rows:
            yield rows[line].ljust(width) + "│"
        elif line[:2] in ("┌─", "└─"):
            yield line[:width].ljust(width, "─") + line[-1]
        else:
            yield line.replace(prefix, "")


def shortened(lines: list[str]) -> Iterator[str]:
    """Without most of the progress; what `validate` has said is not said again."""
    evaluations = [number for number, line in enumerate(lines) if line.startswith("validation after")]
    first, last = SHOWN_EVALUATIONS
    hidden = range(evaluations[first], evaluations[-last]) if len(evaluations) > first + last else range(0)
    for number, line in enumerate(lines):
        if hidden and number == hidden.start:
            yield "..."
        if number not in hidden and not re.match(r"(data|evaluation|parallel|training|loss)\.?\w*: ", line):
            yield line


def main() -> None:
    """Run the commands and write the picture."""
    console = Console(record=True, width=WIDTH, file=open(os.devnull, "w"), force_terminal=True)  # noqa: SIM115
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "configs").symlink_to(ROOT / "configs")
        for number, command in enumerate(COMMANDS):
            console.print(Text.assemble(("$ ", "bold green"), (command, "bold")))
            lines = output_of(command, folder)
            for line in lines if number == 0 else shortened(lines):
                if line.strip():
                    text = Text(line, style="dim" if line == "..." else "")
                    console.print(text, no_wrap=True, overflow="ellipsis")
    picture = console.export_svg(title="PipeMLP", unique_id="terminal")
    picture = re.sub(r"@font-face \{.*?\}\s*", "", picture, flags=re.DOTALL)  # the viewer's own font, none from the web
    PICTURE.write_text("\n".join(line.rstrip() for line in picture.splitlines()) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
