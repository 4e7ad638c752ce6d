"""Where commands print: the terminal as wide as it is, files and pipes 100 columns wide."""

import os
import sys
from typing import TextIO

from rich.console import Console

COLUMNS = 100
"""What every table fits into."""


def screen(file: TextIO | None = None) -> Console:
    """A console for reports; the variable COLUMNS decides where it is set."""
    is_terminal = (sys.stdout if file is None else file).isatty()
    width = None if is_terminal or "COLUMNS" in os.environ else COLUMNS
    return Console(file=file, highlight=False, width=width)
