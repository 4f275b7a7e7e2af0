"""Programs that the lab runs on its host: whether they are there, and running one to its end within a deadline."""

from __future__ import annotations

import contextlib
import os
import selectors
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from lab.core.errors import PrerequisiteError
from lab.host.cache import Deadline

_POLL_SECONDS = 0.2
_TAIL_LINES = 5
_LINE_CHARACTERS = 300
_ERROR_MARKS = ("E: ", "Err:", "error: ", "dpkg: error")


@dataclass(frozen=True)
class Program:
    """A program that the host must have, and the Debian package that brings it."""

    name: str
    package: str


def require_programs(programs: Sequence[Program]) -> None:
    """Return if the host has them all. Raises PrerequisiteError that names the packages of those it lacks."""
    lacking = [program for program in programs if _which(program.name) is None]
    if lacking:
        packages = " ".join(dict.fromkeys(program.package for program in lacking))
        raise PrerequisiteError(
            f"this host lacks {', '.join(program.name for program in lacking)}",
            hint=f"apt install {packages}, or run scripts/setup",
        )


def run_program(
    argv: Sequence[str],
    deadline: Deadline,
    *,
    on_line: Callable[[str], None] = lambda line: None,
    on_idle: Callable[[], None] = lambda: None,
    environment: Mapping[str, str] | None = None,
) -> list[str]:
    """Run a program to its end; gives the lines it printed (both streams), each passed to `on_line` as it comes.

    It has a session of its own and dies with the lab, and with the deadline. Raises PrerequisiteError with its last
    lines when it fails.
    """
    lines: list[str] = []
    with _session(argv, environment or {}) as process:
        for line in _lines_of(process, deadline, on_idle):
            lines.append(line)
            on_line(line)
        try:
            status = process.wait(timeout=max(0.1, deadline.ends_at_seconds - time.monotonic()))
        except subprocess.TimeoutExpired:
            deadline.check()
            raise
    if status:
        tail = "; ".join(telling_lines(lines)) or "it printed nothing"
        raise PrerequisiteError(
            f"{deadline.what} failed (status {status}): {tail}",
            hint="lab doctor says whether this host lacks a program or space; then try again",
        )
    return lines


def telling_lines(lines: Sequence[str]) -> list[str]:
    """The few lines of a failed program that say why: apt's and mmdebstrap's errors, which come before the lines about
    cleaning up; of a program that marks none, the last ones.
    """
    errors = dict.fromkeys(line.strip()[:_LINE_CHARACTERS] for line in lines if line.startswith(_ERROR_MARKS))
    return list(errors)[:_TAIL_LINES] or [line[:_LINE_CHARACTERS] for line in lines[-_TAIL_LINES:] if line]


@contextlib.contextmanager
def _session(argv: Sequence[str], environment: Mapping[str, str]) -> Iterator[subprocess.Popen[bytes]]:
    """A program in a session of its own, all of which is killed when the block ends."""
    # setpriv's parent-death signal is kept across execve; it comes when the thread that started the program ends, so
    # that thread must stay. In a session of its own, a terminal's Ctrl-C reaches the program only from here.
    process = subprocess.Popen(
        ("setpriv", "--pdeathsig", "KILL", "--", *argv),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        start_new_session=True,
        env=_environment(environment),
    )
    try:
        yield process
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        if process.stdout:
            process.stdout.close()


def _lines_of(process: subprocess.Popen[bytes], deadline: Deadline, on_idle: Callable[[], None]) -> Iterator[str]:
    """What `process` prints, line by line, until it closes its output; raises what `deadline.check()` raises."""
    assert process.stdout is not None
    rest = b""
    with selectors.DefaultSelector() as selector:
        selector.register(process.stdout, selectors.EVENT_READ)
        while True:
            deadline.check()
            on_idle()
            if not selector.select(_POLL_SECONDS):
                continue
            chunk = os.read(process.stdout.fileno(), 65536)
            *complete, rest = (rest + chunk).split(b"\n")
            yield from (line.decode(errors="replace").rstrip("\r") for line in complete)
            if not chunk:
                break
    if rest:
        yield rest.decode(errors="replace")


def _environment(extra: Mapping[str, str]) -> dict[str, str]:
    # a user's PATH on Debian lacks the sbin folders, where mke2fs and depmod are
    path = f"{os.environ.get('PATH', '/usr/bin:/bin')}:/usr/local/sbin:/usr/sbin:/sbin"
    return {**os.environ, "PATH": path, **extra}


def _which(program: str) -> str | None:
    return shutil.which(program, path=_environment({})["PATH"])
