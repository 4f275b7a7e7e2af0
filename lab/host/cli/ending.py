"""How a command ends: its exit status and its last words, whatever happened. A crash never looks like a finding."""

from __future__ import annotations

import contextlib
import os
import sys
import traceback
from collections.abc import Callable, Iterator
from typing import Any, TextIO, cast

from lab.core.errors import GuestLost, LabError, PrerequisiteError
from lab.host.failures import host_failed, leaves

EXIT_WRONG = 2
EXIT_UNCLEAR = 3
EXIT_SKIPPED = 4
EXIT_FAULT = 70  # EX_SOFTWARE of sysexits.h: a fault of the lab itself
EXIT_INTERRUPTED = 130
EXIT_PIPE_CLOSED = 141  # as a program that SIGPIPE ends: whoever read has gone
# what `git bisect run` (its manual) makes of a status: below 128 all but 125, which skips the commit, are good or bad
_FOR_GIT = {0: 0, 1: 1, EXIT_UNCLEAR: 125, EXIT_SKIPPED: 125}
_GIT_STOPS = 128
FRAMES_VARIABLE = "LAB_TRACEBACK"

Say = Callable[[str], None]

_LOST_HINT = "try again; lab doctor says what this host lacks, and lab run keeps what the machine's console showed"
_MOST_CHARACTERS = 4000
_SHOWN_FRAMES = 3


class StreamFailed(Exception):
    """Standard output cannot be written; `error` says why."""

    def __init__(self, error: OSError) -> None:
        super().__init__(str(error))
        self.error = error


def status_of(command: Callable[[], int], say: Say) -> int:
    """Run a command to its end; its exit status. Every error is said, and none is raised but SystemExit."""
    try:
        with streams():
            try:
                return command()
            finally:  # also after --help, which ends the program
                sys.stdout.flush()
    except SystemExit:
        raise
    except BaseException as error:
        return _status_of_error(error, say)


def status_for_git(command: Callable[[], int], say: Say) -> int:
    """As status_of, with a status as `git bisect run` reads it; wrong usage and every fault stop it."""
    try:
        status = status_of(command, say)
    except SystemExit as stopped:
        status = stopped.code if isinstance(stopped.code, int) else EXIT_WRONG
    return _FOR_GIT.get(status, max(status, _GIT_STOPS))


def _status_of_error(error: BaseException, say: Say) -> int:
    # of a group, a fault of the lab itself counts before what the host or the user did wrong
    errors = sorted(leaves(error), key=lambda error: isinstance(error, LabError | OSError | StreamFailed))
    first = errors[0]
    if isinstance(first, StreamFailed | BrokenPipeError):
        return _stream_failed(first.error if isinstance(first, StreamFailed) else first, say)
    if isinstance(first, LabError):
        return complain(first, say)
    if isinstance(first, OSError):
        return complain(host_failed(first), say)
    if isinstance(first, KeyboardInterrupt | SystemExit):
        say("interrupted: what had finished is kept")
        return EXIT_INTERRUPTED
    return _fault(first, say)


def complain(error: LabError, say: Say) -> int:
    """Say what was wrong, and the hint; the exit status."""
    say(f"lab: {str(error)[:_MOST_CHARACTERS]}")
    hint = error.hint or (_LOST_HINT if isinstance(error, GuestLost) else "")
    if hint:
        say(f"  hint: {hint[:_MOST_CHARACTERS]}")
    return EXIT_WRONG


def _fault(error: BaseException, say: Say) -> int:
    frames = traceback.extract_tb(error.__traceback__)
    where = " < ".join(
        f"{frame.name} ({_short(frame.filename)}:{frame.lineno})" for frame in frames[-_SHOWN_FRAMES:][::-1]
    )
    say(f"lab: a fault of the lab itself: {type(error).__name__}: {str(error)[:500]}")
    say(f"  in: {where or 'an unknown place'}")
    say(f"  hint: please report it with these lines and the command; {FRAMES_VARIABLE}=1 shows every frame")
    if os.environ.get(FRAMES_VARIABLE):
        say("".join(traceback.format_exception(error)))
    return EXIT_FAULT


def _short(path: str) -> str:
    """A file by its place in the lab, or by its name."""
    _, found, rest = path.rpartition("/lab/")
    return f"lab/{rest}" if found else os.path.basename(path)


# -- standard streams -------------------------------------------------------------------------------------------------


def _stream_failed(error: OSError, say: Say) -> int:
    _to_nowhere(sys.stdout)
    if isinstance(error, BrokenPipeError):
        return EXIT_PIPE_CLOSED
    say(f"lab: standard output cannot be written: {error.strerror}")
    say("  hint: what was run is kept in its folder; lab judge prints its results again")
    return EXIT_WRONG


def _to_nowhere(stream: TextIO | None) -> None:
    """What a stream still holds goes to /dev/null, so that the interpreter's end is quiet, too."""
    with contextlib.suppress(OSError, ValueError, AttributeError):
        with open(os.devnull, "wb") as nowhere:
            os.dup2(nowhere.fileno(), stream.fileno())  # type: ignore[union-attr]


@contextlib.contextmanager
def streams() -> Iterator[None]:
    """Standard streams for a command: 0, 1 and 2 are open, so that no file that is opened later takes their place;
    words for people that cannot be written never end a run, results that cannot raise StreamFailed.

    Raises PrerequisiteError where standard output was closed, for results would get lost.
    """
    closed = [number for number in (0, 1, 2) if not _is_open(number)]
    for _ in closed:
        os.open(os.devnull, os.O_RDWR)  # takes the lowest number that is free
    with contextlib.ExitStack() as stack:
        nowhere = stack.enter_context(open(os.devnull, "w", encoding="utf-8"))
        stack.enter_context(contextlib.redirect_stderr(cast(TextIO, _Lenient(sys.stderr or nowhere))))
        stack.enter_context(contextlib.redirect_stdout(cast(TextIO, _Strict(sys.stdout or nowhere))))
        if 1 in closed:
            raise PrerequisiteError("standard output is closed", hint="lead it to a file, or to /dev/null")
        yield


def _is_open(number: int) -> bool:
    try:
        os.fstat(number)
    except OSError:
        return False
    return True


class _Stream:
    def __init__(self, to: TextIO) -> None:
        self._to = to

    def __getattr__(self, name: str) -> Any:
        return getattr(self._to, name)


class _Lenient(_Stream):
    """A stream whose errors are nobody's: what is written to it is for people, and they have gone."""

    def write(self, text: str) -> int:
        """Write, if that can be done."""
        with contextlib.suppress(OSError):
            self._to.write(text)
        return len(text)

    def flush(self) -> None:
        """Flush, if that can be done."""
        with contextlib.suppress(OSError):
            self._to.flush()


class _Strict(_Stream):
    """A stream whose errors are told apart from those of files."""

    def write(self, text: str) -> int:
        """Write. Raises StreamFailed."""
        try:
            return self._to.write(text)
        except OSError as error:
            raise StreamFailed(error) from error

    def flush(self) -> None:
        """Write what is held. Raises StreamFailed."""
        try:
            self._to.flush()
        except OSError as error:
            raise StreamFailed(error) from error
