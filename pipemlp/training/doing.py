"""What a rank does right now, in words, for the others to say when it is lost."""

import time
from collections.abc import Callable


class Doing:
    """The last thing that this rank reported; called with it.

    Args:
        text: until there is something else.
    """

    def __init__(self, text: str = "start-up") -> None:
        self._text = text
        self._saving = "", time.monotonic()
        self.finer: Callable[[], str] = lambda: ""
        """More about it, asked when somebody wants to know."""

    def __call__(self, text: str) -> None:
        """From now on it is this."""
        self._text = text

    def saving(self, text: str) -> None:
        """The same for what is done beside it, by the thread that saves; nothing while it waits for other ranks."""
        self._saving = text, time.monotonic()

    def text(self) -> str:
        """All of it in one line."""
        return ", ".join(part for part in (self._text, self.finer(), self._saving[0]) if part)

    def saving_seconds(self) -> float:
        """For how long the thread that saves has been at what it reported last; 0 if it has nothing to do."""
        text, since = self._saving
        return time.monotonic() - since if text else 0.0

    def was_away(self) -> None:
        """This process was stopped for a while, in which it could do nothing."""
        self._saving = self._saving[0], time.monotonic()
