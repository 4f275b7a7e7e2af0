"""The processes of a worker in which the lab runs chunks: they die with the worker, and their guests with them.

What has done its chunk is kept for the next, for to start one takes a second.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
from asyncio.subprocess import DEVNULL, PIPE, Process
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from distributed.diagnostics.plugin import WorkerPlugin

from lab.core.errors import LabError
from lab.host.fleet import WORKER_HINT
from lab.host.process import dying_with_parent

PROCESSES = "lab-processes"
_KILL_SECONDS = 3.0  # after a polite end was asked for
_MOST_LINE_BYTES = 2**20


@dataclass
class LabProcess:
    """A process that runs a chunk; `lab/host/cli/fleet_cells.py` is its other end."""

    process: Process
    is_done: bool = True  # with what it was asked for

    async def say(self, **words: str) -> None:
        """Ask for a chunk. Raises OSError where the process is gone."""
        assert self.process.stdin is not None
        self.is_done = False
        self.process.stdin.write(f"{json.dumps(words)}\n".encode())
        await self.process.stdin.drain()

    async def hear(self, most_silent_seconds: float) -> dict[str, Any] | None:
        """What it says next; None when the chunk is done. Raises LabError where it says nothing, or has ended."""
        assert self.process.stdout is not None
        try:
            line = await asyncio.wait_for(self.process.stdout.readline(), most_silent_seconds)
        except TimeoutError:
            raise LabError(f"the lab said nothing for {most_silent_seconds:g} s", WORKER_HINT) from None
        except ValueError:
            raise LabError(f"the lab said a line of more than {_MOST_LINE_BYTES} bytes", WORKER_HINT) from None
        if not line:
            raise LabError(f"the lab ended with status {await self.process.wait()}", WORKER_HINT)
        said: dict[str, Any] = json.loads(line)
        self.is_done = "done" in said
        return None if self.is_done else said

    async def end(self) -> None:
        """End it: politely, so that it puts away its guests, or else by force."""
        with contextlib.suppress(ProcessLookupError):
            self.process.terminate()
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self.process.wait(), _KILL_SECONDS)
            if self.process.returncode is None:
                self.process.kill()  # its guests get the same signal from the kernel


@dataclass
class Processes(WorkerPlugin):
    """A worker's, as a plugin of Dask's: so a task finds them."""

    argv: Sequence[str]
    name: str = PROCESSES
    _idle: list[LabProcess] = field(default_factory=list)

    @contextlib.asynccontextmanager
    async def process(self) -> AsyncIterator[LabProcess]:
        """A process for a chunk, gone at the end unless the chunk is done. Raises OSError, PrerequisiteError."""
        lab = next((lab for lab in self._taken() if lab.process.returncode is None), None) or await self._start()
        try:
            yield lab
        finally:
            if lab.is_done and lab.process.returncode is None:
                self._idle.append(lab)
            else:
                await lab.end()

    def _taken(self) -> list[LabProcess]:
        taken, self._idle = self._idle[-1:], self._idle[:-1]
        return taken

    async def _start(self) -> LabProcess:
        argv = dying_with_parent(self.argv)
        return LabProcess(
            await asyncio.create_subprocess_exec(
                *argv, stdin=PIPE, stdout=PIPE, stderr=DEVNULL, start_new_session=True, limit=_MOST_LINE_BYTES
            )
        )
