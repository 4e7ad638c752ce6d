"""What a schedule that cannot run raises, with the place of the mistake."""


class ScheduleError(ValueError):
    """A schedule, or a program made from one, that is illegal or hangs.

    Args:
        message: what is wrong and where; rows (stages) and columns (positions) are counted from 1 there.
        stage: the stage at fault, counted from 0, where there is one.
        position: which of its actions, counted from 0, where there is one.
    """

    def __init__(self, message: str, *, stage: int | None = None, position: int | None = None) -> None:
        super().__init__(message)
        self.stage = stage
        self.position = position
