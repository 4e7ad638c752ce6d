"""What was found, a JSON line each, in a file that outlives this process: what is there need not be done again."""

import json
import sys
from pathlib import Path
from typing import Any

Row = dict[str, Any]
"""One line; `part`, and `problem`, a text where something is not as it should be."""


def say(text: str) -> None:
    """Progress."""
    print(text, file=sys.stderr, flush=True)


class Record:
    """All rows of a file, and those that this process adds.

    Args:
        path: of the file; None keeps them in memory only.
    """

    def __init__(self, path: Path | None) -> None:
        self._path = path
        self.rows: list[Row] = []
        self.new: list[Row] = []
        """Of this process."""
        if path is not None and path.is_file():
            for line in path.read_text(encoding="utf-8").splitlines():
                try:
                    self.rows.append(json.loads(line))
                except ValueError:
                    say(f"{path}: a line that was not written to its end is left out")

    def of(self, part: str) -> list[Row]:
        """Those of a part."""
        return [row for row in self.rows if row["part"] == part]

    def add(self, part: str, row: Row) -> None:
        """Keep a row, at once on the disk."""
        own = {"part": part, **row}
        self.rows.append(own)
        self.new.append(own)
        if self._path is not None:
            with self._path.open("a", encoding="utf-8") as file:
                file.write(json.dumps(own) + "\n")

    @property
    def problems(self) -> list[Row]:
        """Rows of this process that are not as they should be."""
        return [row for row in self.new if row.get("problem") is not None]
