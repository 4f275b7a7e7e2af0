"""Images and kernels to the workers that lack them: each to each once, in parts, by way of the scheduler."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from distributed import Client
from distributed.comm.core import CommClosedError

from lab.core.errors import LabError
from lab.host.fleet import receiving
from lab.host.fleet.artifacts import Source
from lab.host.results.plain_files import open_plain

PART_BYTES = 4 * 2**20


@dataclass
class Sender:
    """Sends what workers ask for. What they ask for while it is on its way to them is not sent again. Where a worker
    cannot take it, `on_failure` gets its name, why, and a hint.
    """

    client: Client
    sources: dict[str, Source]  # by digest
    say: Callable[[str], None]
    on_failure: Callable[[str, str, str], None] = lambda worker, why, hint: None
    _under_way: dict[tuple[str, str], asyncio.Task[None]] = field(default_factory=dict)

    def asked(self, digest: str, address: str, worker: str) -> None:
        """A worker lacks an artifact. What is not this run's it does not get."""
        source, key = self.sources.get(digest), (digest, address)
        if source is not None and key not in self._under_way:
            task = self._under_way[key] = asyncio.ensure_future(self._send(source, address, worker))
            task.add_done_callback(lambda ended: self._under_way.pop(key, None))

    async def close(self) -> None:
        """End what is on its way."""
        tasks = [*self._under_way.values()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _send(self, source: Source, address: str, worker: str) -> None:
        artifact = source.artifact
        try:
            if not await self._run(receiving.begin, address, artifact):
                return
            self.say(f"{worker}: gets {artifact.name} ({artifact.size_bytes / 10**6:.0f} MB)")
            for file in artifact.files:
                for offset, part in _parts(source.folder / file.name):
                    await self._run(receiving.write, address, artifact, file.name, offset, part)
            await self._run(receiving.end, address, artifact)
        except (CommClosedError, KeyError):
            return  # the worker is gone, which its chunk's end will tell
        except (LabError, OSError) as error:
            self.on_failure(worker, f"could not get {artifact.name}: {error}"[:500], getattr(error, "hint", ""))

    async def _run(self, function: Callable[..., object], address: str, *arguments: object) -> object:
        answers = await self.client.run(function, *arguments, workers=[address])
        return answers[address]


def _parts(path: Path) -> Iterator[tuple[int, bytes]]:
    with open_plain(path) as file:
        offset = 0
        while part := file.read(PART_BYTES):
            yield offset, part
            offset += len(part)
        if offset == 0:
            yield 0, b""
