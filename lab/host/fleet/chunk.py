"""A task of the fleet: a chunk of cells, run by the lab itself in a process of its own on the worker.

Whatever happens is told by events, which Dask brings to the
client in their order: a line of progress, an artifact that is lacking, the archive of a cell that has ended.
"""

from __future__ import annotations

import asyncio
import contextlib
import shutil
import tempfile
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from distributed import Worker, get_worker

from lab.core.errors import LabError
from lab.host.cache import cache_root, make_folder
from lab.host.fleet import WORKER_HINT, archive
from lab.host.fleet.artifacts import Artifact
from lab.host.fleet.fetching import FETCHER, Fetcher
from lab.host.fleet.package import package_digest
from lab.host.fleet.processes import PROCESSES, LabProcess, Processes
from lab.host.results.layout import CELLS, MANIFEST

_ARRIVAL_SECONDS = 900.0
_ASK_AGAIN_SECONDS = 15.0
_LOOK_SECONDS = 0.2
_MOST_WORDS = 2000


@dataclass(frozen=True)
class Chunk:
    """Cells of one machine kind. `manifest` is a whole one, of a run that has these cells and none of them yet."""

    key: str
    topic: str
    lab: str  # the digest of the client's
    manifest: str
    artifacts: tuple[Artifact, ...]
    accelerator: str
    most_silent_seconds: float


@dataclass
class Outcome:
    """How a chunk ended: None where all of it was run, else what was wrong."""

    error: str | None = None
    hint: str = ""


@dataclass
class _Task:
    worker: Worker
    chunk: Chunk
    outcome: Outcome = field(default_factory=Outcome)

    def tell(self, **content: Any) -> None:
        self.worker.log_event(self.chunk.topic, {"name": str(self.worker.name), "key": self.chunk.key, **content})

    def is_cancelled(self) -> bool:
        """Whether nobody waits for the chunk any more: Dask leaves a task that runs alone, and only marks it."""
        state = self.worker.state.tasks.get(self.chunk.key)
        return state is None or state.state == "cancelled"


async def run_chunk(chunk: Chunk) -> None:
    """Run a chunk on this worker. What goes wrong with the worker or the lab is in the outcome, which is the last thing
    that is told. It is not what the task returns: that stays on the worker until it is fetched, and where the worker
    dies before, Dask has the task run once more.
    """
    task = _Task(get_worker(), chunk)
    try:
        if chunk.lab != package_digest():
            raise LabError("this worker has another lab than the client", hint="install the same on both")
        await _arrival(task)
        with _folder(chunk) as folder:
            await _run(task, folder)
    except (LabError, OSError) as error:
        task.outcome.error = task.outcome.error or f"{error}"[:_MOST_WORDS]
        task.outcome.hint = task.outcome.hint or getattr(error, "hint", "")[:_MOST_WORDS]
    task.tell(outcome=asdict(task.outcome))


async def _arrival(task: _Task) -> None:
    """Return when all artifacts are there; the client is asked for what cannot be fetched, now and then again."""
    try:
        async with asyncio.timeout(_ARRIVAL_SECONDS):
            for artifact in task.chunk.artifacts:
                await _fetched(task, artifact)
                asked_at = -_ASK_AGAIN_SECONDS
                while not artifact.is_there() and not task.is_cancelled():
                    now = asyncio.get_running_loop().time()
                    if now - asked_at >= _ASK_AGAIN_SECONDS or asked_at < 0:
                        task.tell(lacks=artifact.digest, address=task.worker.address)
                        asked_at = now
                    await asyncio.sleep(_LOOK_SECONDS)
    except TimeoutError:
        raise LabError(f"{artifact.name} did not arrive within {_ARRIVAL_SECONDS:g} s", WORKER_HINT) from None


async def _fetched(task: _Task, artifact: Artifact) -> None:
    """Return when the worker's web server was asked for what is not there, if it has such a server."""
    fetcher: Fetcher | None = task.worker.plugins.get(FETCHER)  # type: ignore[assignment]
    if fetcher is not None and not artifact.is_there():
        attempt = fetcher.attempt(artifact, lambda text: task.tell(note=text))
        while not attempt.done() and not task.is_cancelled():
            await asyncio.wait([attempt], timeout=_LOOK_SECONDS)


@contextlib.contextmanager
def _folder(chunk: Chunk) -> Iterator[Path]:
    """A run's folder that has a manifest and no cell, removed at the end."""
    folder = Path(tempfile.mkdtemp(dir=make_folder(work_folder())))
    try:
        (folder / CELLS).mkdir()
        (folder / MANIFEST).write_text(chunk.manifest, encoding="utf-8")
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def work_folder() -> Path:
    """Where a worker's chunks have their folders."""
    return cache_root() / "chunks"


async def _run(task: _Task, folder: Path) -> None:
    processes: Processes = task.worker.plugins[PROCESSES]  # type: ignore[assignment]
    async with processes.process() as lab:
        await lab.say(folder=str(folder), accelerator=task.chunk.accelerator)
        reading = asyncio.ensure_future(_read(lab, task, folder))
        try:
            while not reading.done() and not task.is_cancelled():
                await asyncio.wait([reading], timeout=_LOOK_SECONDS)
            if reading.done():
                await reading
        finally:
            reading.cancel()


async def _read(lab: LabProcess, task: _Task, folder: Path) -> None:
    """Tell the client what the lab says, line by line, until the chunk is done."""
    while (said := await lab.hear(task.chunk.most_silent_seconds)) is not None:
        if "ended" in said:
            cell = Path(said["ended"]).name
            task.tell(cell=cell, archive=await asyncio.to_thread(archive.pack, folder / CELLS / cell))
        elif "error" in said:
            task.outcome.error, task.outcome.hint = (str(said[key])[:_MOST_WORDS] for key in ("error", "hint"))
        else:
            task.tell(**said)
