"""Collects what is wrong with the data, so that all of it is reported at once."""

import difflib
from collections.abc import Iterable

from pipemlp.config.errors import ConfigError, DataError

_MOST_SHOWN = 20


class Problems:
    """Messages so far; contradictions of the configuration outrank problems of the data."""

    def __init__(self) -> None:
        self._config: list[str] = []
        self._data: list[str] = []

    def config(self, message: str) -> None:
        """The configuration contradicts itself or the data (exit code 2)."""
        self._config.append(message)

    def data(self, message: str) -> None:
        """The data are missing, damaged or unfit (exit code 3)."""
        self._data.append(message)

    def raise_if_any(self) -> None:
        """Raise ConfigError if there is a contradiction, else DataError if there is any problem."""
        if self._config:
            raise ConfigError(self._config + self._data)
        if self._data:
            raise DataError(self._data)


def listing(names: Iterable[object], most_shown: int = _MOST_SHOWN) -> str:
    """Names for a message: the first ones, and how many more."""
    texts = [str(name) for name in names]
    more = f", ... ({len(texts)} in all)" if len(texts) > most_shown else ""
    return ", ".join(texts[:most_shown]) + more


def suggestion(name: str, known: Iterable[str]) -> str:
    """`; did you mean 'price'?`, or nothing."""
    close = difflib.get_close_matches(name, list(known), n=1)
    return f"; did you mean {close[0]!r}?" if close else ""


def counted(number: int, noun: str, plural: str = "s") -> str:
    """`1 row`, `3 rows`; `plural` is what the noun takes."""
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}{plural}"
