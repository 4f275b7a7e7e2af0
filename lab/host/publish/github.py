"""GitHub Actions, where the lab runs in it: workflow commands on stderr, Markdown in the step's summary."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, TextIO, cast

from lab.core.render import github

if TYPE_CHECKING:
    from lab.core.result import CellResult

_SUMMARY = "GITHUB_STEP_SUMMARY"
_LEFT_OUT = "\nMore is left out here: GitHub takes no larger summary.\n"


def active() -> bool:
    """Whether a runner of GitHub Actions reads what is printed."""
    return os.environ.get("GITHUB_ACTIONS") == "true"


def printed(text: str) -> str:
    """Words for the log: nothing in them is a workflow command where a runner reads them."""
    return github.harmless(text) if active() else text


def printed_json(text: str) -> str:
    """JSON for the log; it means the same."""
    return github.harmless_json(text) if active() else text


def stream(to: TextIO) -> TextIO:
    """`to`, or in GitHub Actions a stream to it that lets no workflow command through."""
    return cast(TextIO, Harmless(to)) if active() else to


def workflow_commands(cells: Sequence[CellResult], folder: str) -> list[str]:
    """The annotations of these results; none elsewhere than in GitHub Actions."""
    return github.workflow_commands(cells, folder) if active() else []


def append_summary(made: Callable[[int], str], say: Callable[[str], None]) -> None:
    """Append to the file that GITHUB_STEP_SUMMARY names what `made` gives for the bytes that are left in it.

    Nothing happens where it names none. A file that cannot be written is reported, and costs no result.
    """
    path = os.environ.get(_SUMMARY)
    if not path:
        return
    try:
        with open(path, "ab") as file:
            left = github.MOST_SUMMARY_BYTES - file.tell() - len(_LEFT_OUT)
            if left < 0:
                say(f"{_SUMMARY}: is full, so nothing was added: GitHub takes no larger summary")
                return
            text = made(left).rstrip()
            file.write(f"{text}\n\n".encode() if text else _LEFT_OUT.encode())
    except OSError as error:
        say(f"{_SUMMARY}: {path}: cannot be written: {error.strerror}")


class Harmless:
    """A stream whose lines are no workflow commands, however they are written: whole, or in parts."""

    def __init__(self, to: TextIO) -> None:
        self._to = to
        self._line = ""  # what is written of a line that has not ended

    def write(self, text: str) -> int:
        """Write; what the line began with counts for what the runner would make of it."""
        *_, rest = (self._line + text).replace("\r", "\n").split("\n")
        # a blank goes in where a command becomes one, so what was shown of the line is how this begins
        shown = github.harmless(self._line + text)
        self._to.write(shown[len(github.harmless(self._line)) :])
        self._line = rest
        return len(text)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._to, name)
