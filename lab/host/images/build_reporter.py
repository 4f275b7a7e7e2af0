"""What a build tells people while it runs: the stage that mmdebstrap is in, and a sign of life."""

from __future__ import annotations

import time

from lab.core.text import printable
from lab.host.cache import Progress

_HEARTBEAT_SECONDS = 10.0

# what mmdebstrap says -> what a person reads
_STAGES = (
    ("running apt-get update", "reading the package lists"),
    ("setup-hook", "reading the package lists"),
    ("downloading packages", "downloading packages"),
    ("extracting archives", "unpacking the essential packages"),
    ("installing essential packages", "installing the essential packages"),
    ("installing remaining packages", "installing Python, the netfilter tools and the kernel"),
    ("cleaning package lists", "cleaning up"),
)


class BuildReporter:
    """Turns what happens into lines of progress, each with the seconds since the start."""

    def __init__(self, what: str, progress: Progress, detail: Progress) -> None:
        self.waited = False
        self._detail = detail
        self._what = what
        self._progress = progress
        self._started_seconds = self._spoken_seconds = time.monotonic()
        self._stage = ""

    def wait(self) -> None:
        """Another process builds the same."""
        self.waited = True
        self._progress(f"{self._what}: waiting for another build of it")

    def stage(self, text: str) -> None:
        """A new stage begins."""
        self._stage = text
        self._say(text)

    def line(self, line: str) -> None:
        """mmdebstrap printed `line`, which may begin a stage."""
        self._detail(f"{self._what}: {printable(line)}")
        text = next((text for mark, text in _STAGES if line.startswith("I: ") and mark in line), None)
        if text and text != self._stage:
            self.stage(text)

    def idle(self) -> None:
        """Time passes."""
        if time.monotonic() - self._spoken_seconds >= _HEARTBEAT_SECONDS:
            self._say(f"still {self._stage}")

    def _say(self, text: str) -> None:
        self._spoken_seconds = time.monotonic()
        self._progress(f"{self._what}: {text} ({self._spoken_seconds - self._started_seconds:.0f} s)")
