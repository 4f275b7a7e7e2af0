"""A machine of QEMU: what a cell asks for, and the machine restored from a saved state."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lab.core.errors import GuestLost
from lab.host.machines import terminal
from lab.host.machines.machine import MachineSpec, OnEvent
from lab.host.machines.qemu.command import DiskImage
from lab.host.machines.qemu.process import QemuProcess

SAVE_SECONDS = 60.0


@dataclass(frozen=True, kw_only=True)
class ImageMachine(MachineSpec):
    """The machine that a cell asks for, from an image; everything in it shapes the saved state that cells are restored
    from. `digest` is of the image and of a foreign kernel.
    """

    root_disk: Path
    kernel: Path
    initrd: Path
    modules_disk: Path | None = None
    distribution: DiskImage | None = None
    newest_processor: bool = False  # its programs do not run on the old one that emulation has otherwise
    lacking: str | None = None  # why there is no such machine


class QemuMachine:
    """A machine restored from a saved state."""

    def __init__(self, process: QemuProcess, facts: Mapping[str, Any]) -> None:
        self._process = process
        self._facts = facts

    async def call(
        self, operation: str, *, deadline_seconds: float, on_event: OnEvent | None = None, **arguments: Any
    ) -> Mapping[str, Any]:
        """See Machine.call."""
        return await self._process.call(operation, deadline_seconds=deadline_seconds, on_event=on_event, **arguments)

    def console(self) -> str:
        """See Machine.console."""
        return self._process.console()

    def facts(self) -> Mapping[str, Any]:
        """See Machine.facts."""
        return self._facts

    def logs(self) -> Mapping[str, str]:
        """See Machine.logs."""
        return {}

    async def keep(self, file: Path) -> None:
        """Stop the machine and write all of it to `file`, for `QemuProvisioner.kept`. Raises GuestLost."""
        await self._process.execute("stop")
        with file.open("wb") as saved:
            await migrate(self._process, saved.fileno(), "migrate", SAVE_SECONDS)

    async def shell(self) -> int:
        """See Machine.shell."""
        return await terminal.join(self, self._process.shell_socket)

    @property
    def process(self) -> QemuProcess:
        """The QEMU behind it, for tests that kill it."""
        return self._process


async def migrate(process: QemuProcess, devices_fd: int, command: str, seconds: float) -> None:
    """Write (`migrate`) or read (`migrate-incoming`) the devices' state. The memory, in a file of its own, is left out
    of it (x-ignore-shared). A machine that was saved is stopped; one that was restored runs.
    """
    process.qmp.send_fd_scm(devices_fd)
    uri = f"file:/dev/fdset/{(await process.execute('add-fd'))['fdset-id']}"
    capabilities = [{"capability": "x-ignore-shared", "state": True}]
    await process.execute("migrate-set-capabilities", {"capabilities": capabilities})
    await process.execute(command, {"uri": uri})
    deadline = time.monotonic() + seconds
    while (status := (await process.execute("query-migrate")).get("status")) != "completed":
        if status in ("failed", "cancelled") or time.monotonic() > deadline:
            raise GuestLost(f"{command} of the machine's state ended as {status}")
        await asyncio.sleep(0.01)
