"""A real pseudo-terminal, with an emulator at its other end: what a person would see is what a test looks at."""

from __future__ import annotations

import fcntl
import os
import pty
import select
import signal
import struct
import termios
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

import pyte

_PATIENCE_SECONDS = 60.0  # for a machine that does much else; a test that passes waits for nothing


class PseudoTerminal:
    """`stream` is what a program writes to; `screen()` is what is shown then."""

    def __init__(self, columns: int = 100, lines: int = 24) -> None:
        self.raw = b""  # all that was ever written
        self._master, self.descriptor = pty.openpty()
        self.stream = open(self.descriptor, "w", encoding="utf-8", errors="backslashreplace", closefd=False)
        self._screen = pyte.HistoryScreen(columns, lines, history=1000, ratio=1)
        self._feed = pyte.ByteStream(self._screen)
        self._marks = 0
        self.resize(columns, lines)

    def resize(self, columns: int, lines: int) -> None:
        """As when a person pulls at the window."""
        fcntl.ioctl(self.descriptor, termios.TIOCSWINSZ, struct.pack("HHHH", lines, columns, 0, 0))
        self._screen.resize(lines, columns)

    def screen(self) -> list[str]:
        """The lines that hold anything, those that were scrolled away too, once all that was written has arrived."""
        self._take()
        across = range(self._screen.columns)
        gone = ["".join(line[column].data for column in across) for line in self._screen.history.top]
        return [line.rstrip() for line in [*gone, *self._screen.display] if line.strip()]

    @property
    def cursor_is_hidden(self) -> bool:
        """Whether nobody has brought it back."""
        self._take()
        return bool(self._screen.cursor.hidden)

    def _take(self) -> None:
        self.stream.flush()
        # what comes out of a terminal comes later than it went in: a mark says that all of it has
        self._marks += 1
        mark = f"\x1b]777;{self._marks}\x07".encode()
        os.write(self.descriptor, mark)
        data = b""
        while mark not in data:
            ready, _, _ = select.select([self._master], [], [], _PATIENCE_SECONDS)
            assert ready, f"nothing more came after {data[-200:]!r}"
            data += os.read(self._master, 65536)
        data = data.replace(mark, b"")
        self.raw += data
        self._feed.feed(data)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.stream.close()
        os.close(self.descriptor)
        os.close(self._master)


def converse(argv: Sequence[str], steps: Sequence[tuple[str, str]], environment: dict[str, str], folder: Path) -> str:
    """Start a program at a terminal of its own; for each step wait for its words, then press its keys. Returns all that
    was shown up to the last step's words, or all that came where they never do. The program is killed then.
    """
    pid, master = pty.fork()
    if pid == 0:
        try:
            os.chdir(folder)
            os.execve(argv[0], list(argv), environment)
        finally:
            os._exit(127)
    shown, at = "", 0
    try:
        fcntl.ioctl(master, termios.TIOCSWINSZ, struct.pack("HHHH", 50, 200, 0, 0))
        for words, keys in steps:
            while (found := shown.find(words, at)) < 0:
                if not (more := _more(master)):
                    return shown
                shown += more.decode("utf-8", "replace")
            at = found + len(words)  # what comes next may have come with it
            os.write(master, keys.encode())
        return shown
    finally:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        os.close(master)


def _more(master: int) -> bytes:
    """What comes next from a terminal; empty when nothing does any more."""
    ready, _, _ = select.select([master], [], [], _PATIENCE_SECONDS)
    try:
        return os.read(master, 65536) if ready else b""
    except OSError:  # the program ended
        return b""
