"""The kinds of failure that the lab tells apart; each says what was wrong, where, and how to fix it."""


class LabError(Exception):
    """Anything the lab reports in plain words; `hint` says how to fix it, shown on a line of its own."""

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.hint = hint


class ScenarioError(LabError):
    """What the user asked for cannot be understood or done: exit status 2, nothing started."""


class PrerequisiteError(LabError):
    """The host lacks something (program, space, image): exit status 2, nothing started."""


class GuestLost(LabError):
    """The machine vanished, hung or sent garbage: the finding is `inconclusive`, never a verdict."""

    logs: dict[str, str] = {}  # noqa: RUF012  # what the programs that were to make it printed, by file name
    console = ""  # what its console had shown, where somebody was listening
