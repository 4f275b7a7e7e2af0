"""Words for people: on stderr, as loud as was asked for, and how a command waits for its work."""

from __future__ import annotations

import argparse
import contextlib
import os
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TextIO

from lab.core.text import printable
from lab.host.publish import github

if TYPE_CHECKING:
    from lab.host.cli.progress import Loudness


def say(text: str) -> None:
    """A line on stderr; where nobody reads it any more, nothing."""
    with contextlib.suppress(OSError):
        # what a guest or a file said may be in it
        safe = "\n".join(map(printable, text.split("\n")))
        print(github.printed(safe), file=sys.stderr, flush=True)


def hush(text: str) -> None:
    """Says nothing."""


def voice(options: argparse.Namespace) -> Callable[[str], None]:
    """Says what happens, unless --quiet was given."""
    return hush if options.quiet else say


def detail(options: argparse.Namespace) -> Callable[[str], None]:
    """Says what happens in full, where --verbose was given."""
    return say if options.verbose else hush


def loudness(options: argparse.Namespace) -> Loudness:
    """How much of a run's progress is shown."""
    from lab.host.cli.progress import Loudness

    if options.quiet:
        return Loudness.QUIET
    return Loudness.VERBOSE if getattr(options, "verbose", False) else Loudness.NORMAL


def columns(stream: TextIO) -> int | None:
    """How wide a terminal is; None where the stream leads to none, or it does not tell."""
    try:
        return os.get_terminal_size(stream.fileno()).columns or None
    except (OSError, ValueError):
        return None


def shows(stream: TextIO, text: str) -> bool:
    """Whether the stream's encoding has the characters of a text."""
    try:
        text.encode(stream.encoding or "ascii")
    except (UnicodeEncodeError, LookupError):
        return False
    return True


def wait_for(work: Any) -> Any:
    """Run a coroutine; SIGTERM, and the end of its terminal unless nohup was used, end it as Ctrl-C does, with
    everything cleaned up.
    """
    import asyncio
    import signal

    async def watched() -> Any:
        task = asyncio.current_task()
        assert task is not None
        for number in (signal.SIGTERM, signal.SIGHUP):
            if signal.getsignal(number) is not signal.SIG_IGN:
                asyncio.get_running_loop().add_signal_handler(number, task.cancel)
        return await work

    try:
        return asyncio.run(watched())
    except asyncio.CancelledError:
        raise KeyboardInterrupt from None
