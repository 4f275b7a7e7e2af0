"""Images and kernels from a web server near a worker, whose files are named by their SHA-256.

Each is tried once; what does not come whole from there comes from the client.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Any
from urllib.parse import urlsplit

from distributed.diagnostics.plugin import WorkerPlugin

from lab.core.errors import LabError
from lab.host.cache import Deadline
from lab.host.download import download
from lab.host.fleet import receiving
from lab.host.fleet.artifacts import Artifact
from lab.host.threads import in_thread

FETCHER = "lab-fetcher"
_SECONDS = 300.0  # for all files of an artifact; a slower server is of no use
_HINT = "is it in the server's folder, named by its SHA-256?"


def parse_base(text: str) -> str:
    """The URL below which files are. Raises LabError for anything but a plain one of http or https."""
    try:
        parts = urlsplit(text)
        is_plain = bool(parts.hostname) and not (parts.query or parts.fragment or parts.username)
    except ValueError:
        is_plain = False
    if not is_plain or parts.scheme not in ("http", "https") or not text.isprintable():
        hint = "for example http://192.0.2.1:8000"
        raise LabError(f"--artifacts {text!r:.200}: is no http:// or https:// URL of a folder", hint=hint)
    return text.rstrip("/")


@dataclass
class Fetcher(WorkerPlugin):
    """A worker's, as a plugin of Dask's: so a task finds it."""

    base: str
    name: str = FETCHER
    _attempts: dict[str, asyncio.Task[None]] = field(default_factory=dict)  # by the artifact's digest

    def attempt(self, artifact: Artifact, say: Callable[[str], None]) -> asyncio.Task[None]:
        """The one attempt to fetch an artifact, begun now or before by another task; what came of it is said once. It
        does not fail: whether the artifact is there then is to be looked at.
        """
        if artifact.digest not in self._attempts:
            self._attempts[artifact.digest] = asyncio.ensure_future(self._fetch(artifact, say))
        return self._attempts[artifact.digest]

    def teardown(self, worker: Any) -> None:
        """End what is under way."""
        for task in self._attempts.values():
            task.cancel()

    async def _fetch(self, artifact: Artifact, say: Callable[[str], None]) -> None:
        try:
            if await receiving.begin(artifact):
                await in_thread(partial(self._download, artifact))
                await receiving.end(artifact)
                say(f"has {artifact.name} ({artifact.size_bytes / 10**6:.0f} MB) from {self.base}")
        except (LabError, OSError) as error:
            say(f"asks the client for {artifact.name}: {error}"[:500])

    def _download(self, artifact: Artifact, cancelled: threading.Event) -> None:
        deadline = Deadline.after(_SECONDS, f"fetching {artifact.name} from {self.base}", cancelled)
        folder = receiving.arriving(artifact)
        for file in artifact.files:
            download(f"{self.base}/{file.sha256}", folder / file.name, file.size_bytes, deadline, _HINT)
