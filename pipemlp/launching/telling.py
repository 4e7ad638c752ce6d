"""Show a line, though what takes it may be a file on a disk that is full: exit codes are another matter."""

import os
import sys


def tell(text: str, *, as_error: bool = False) -> None:
    """To standard output, or to standard error; once that does not take it, nothing more goes there.

    Python would write what is left at its end again, and change the exit code when that fails.
    """
    name = "stderr" if as_error else "stdout"
    try:
        print(text, file=getattr(sys, name), flush=True)
    except OSError:
        setattr(sys, name, open(os.devnull, "w", encoding="utf-8"))  # noqa: SIM115 - until the end
