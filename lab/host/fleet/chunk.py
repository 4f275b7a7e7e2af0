"""A task of the fleet: a chunk of cells, run by the lab itself in a process of its own on the worker.

The process dies with the worker, and its guests with it. Whatever happens is told by events, which Dask brings to the
client in their order: a line of progress, an artifact that is lacking, the archive of a cell that has ended.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import shutil
import tempfile
from asyncio.subprocess import DEVNULL, PIPE, Process
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from distributed import Worker, get_worker

from lab.core.errors import LabError
from lab.host.cache import cache_root, make_folder
from lab.host.fleet import archive
from lab.host.fleet.artifacts import Artifact
from lab.host.fleet.package import package_digest
from lab.host.process import dying_with_parent
from lab.host.results.layout import CELLS, MANIFEST

PROGRAM = "fleet-program"  # the name of a worker's plugin, which knows what runs a chunk
_ARRIVAL_SECONDS = 900.0
_ASK_AGAIN_SECONDS = 15.0
_LOOK_SECONDS = 0.2
_KILL_SECONDS = 3.0  # after a polite end was asked for
_MOST_LINE_BYTES = 2**20
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
    """Return when all artifacts are there; the client is asked for what is not, now and then again."""
    try:
        async with asyncio.timeout(_ARRIVAL_SECONDS):
            for artifact in task.chunk.artifacts:
                asked_at = -_ASK_AGAIN_SECONDS
                while not artifact.is_there() and not task.is_cancelled():
                    now = asyncio.get_running_loop().time()
                    if now - asked_at >= _ASK_AGAIN_SECONDS or asked_at < 0:
                        task.tell(lacks=artifact.digest, address=task.worker.address)
                        asked_at = now
                    await asyncio.sleep(_LOOK_SECONDS)
    except TimeoutError:
        raise LabError(f"{artifact.name} did not arrive within {_ARRIVAL_SECONDS:g} s") from None


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
    program: Sequence[str] = getattr(task.worker.plugins[PROGRAM], "program")  # noqa: B009
    argv = dying_with_parent([*program, str(folder), task.chunk.accelerator])
    async with _started(argv) as process:
        reading = asyncio.ensure_future(_read(process, task, folder))
        try:
            while not reading.done() and not task.is_cancelled():
                await asyncio.wait([reading], timeout=_LOOK_SECONDS)
            if reading.done():
                await reading
                status = await process.wait()
                if status != 0 and task.outcome.error is None:
                    task.outcome.error = f"the lab ended with status {status}"
        finally:
            reading.cancel()


@contextlib.asynccontextmanager
async def _started(argv: list[str]) -> AsyncIterator[Process]:
    """A process, which is gone when the block ends: politely, so that it puts away its guests, or else not."""
    process = await asyncio.create_subprocess_exec(
        *argv, stdin=DEVNULL, stdout=PIPE, stderr=DEVNULL, start_new_session=True, limit=_MOST_LINE_BYTES
    )
    try:
        yield process
    finally:
        if process.returncode is None:
            process.terminate()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_KILL_SECONDS):
                    await process.wait()
        if process.returncode is None:  # its guests get the same signal from the kernel
            process.kill()


async def _read(process: Process, task: _Task, folder: Path) -> None:
    """Tell the client what the process says, line by line, until it says no more."""
    assert process.stdout is not None
    while True:
        try:
            async with asyncio.timeout(task.chunk.most_silent_seconds):
                line = await process.stdout.readline()
        except TimeoutError:
            raise LabError(f"the lab said nothing for {task.chunk.most_silent_seconds:g} s") from None
        except ValueError:
            raise LabError("the lab said a line that is too long") from None
        if not line:
            return
        await _tell(json.loads(line), task, folder)


async def _tell(said: Mapping[str, Any], task: _Task, folder: Path) -> None:
    if "ended" in said:
        cell = Path(said["ended"]).name
        task.tell(cell=cell, archive=await asyncio.to_thread(archive.pack, folder / CELLS / cell))
    elif "error" in said:
        task.outcome.error, task.outcome.hint = (str(said[key])[:_MOST_WORDS] for key in ("error", "hint"))
    else:
        task.tell(**said)
