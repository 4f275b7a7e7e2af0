"""One QEMU: inherited descriptors in, an agent's channel and a console out, and no way to outlive its owner."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator, Callable, Mapping
from typing import Any

from qemu.qmp import QMPClient, QMPError

from lab.core.errors import GuestLost
from lab.core.kernel.kmsg import console_troubles
from lab.host.machines.channel import MAX_LINE_BYTES, AgentChannel
from lab.host.machines.machine import ConsoleLog, OnEvent, last_lines
from lab.host.machines.qemu.command import Sockets
from lab.host.process import confined

_QMP_SECONDS = 10.0
_EXIT_SECONDS = 5.0
_MAX_STDERR_BYTES = 65536


class QemuProcess:
    """A running QEMU. Made by `running`, which also ends it."""

    def __init__(
        self,
        process: asyncio.subprocess.Process,
        console: ConsoleLog,
        channel: AgentChannel,
        shell_socket: socket.socket,
    ) -> None:
        self.process = process
        self.qmp = QMPClient("conntrack-lab")
        self.channel = channel
        self.shell_socket = shell_socket
        self._console = console
        self._stderr = bytearray()

    async def call(
        self, operation: str, *, deadline_seconds: float, on_event: OnEvent | None = None, **arguments: Any
    ) -> Mapping[str, Any]:
        """As Machine.call; a loss names what QEMU and the console said last."""
        try:
            return await self.channel.call(operation, deadline_seconds=deadline_seconds, on_event=on_event, **arguments)
        except GuestLost as lost:
            raise await self._with_words(lost) from None

    def console(self) -> str:
        """What the console has shown."""
        return self._console.text()

    def stderr(self) -> str:
        """What QEMU itself complained of."""
        return self._stderr.decode("utf-8", "backslashreplace").strip()

    async def execute(self, command: str, arguments: dict[str, object] | None = None) -> Any:
        """A QMP command's result; raises GuestLost when QEMU refuses it or does not answer."""
        try:
            async with asyncio.timeout(_QMP_SECONDS):
                return await self.qmp.execute(command, arguments)
        except (QMPError, TimeoutError) as error:
            raise await self._with_words(GuestLost(f"QEMU did not do {command}: {error or 'no answer'}")) from None

    async def _with_words(self, lost: GuestLost) -> GuestLost:
        """The loss, with how QEMU ended, if it did, and the console's last lines."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(0.3):
                await self.process.wait()
        parts = [str(lost)]
        if self.process.returncode is not None:
            parts.append(f"QEMU ended with status {self.process.returncode}")
        if self.stderr():
            parts.append(f"QEMU: {last_lines(self.stderr(), 3)}")
        fatal = [trouble.text for trouble in console_troubles(self.console()) if trouble.fatal]
        if fatal:
            parts.append(f"its kernel said: {fatal[0]}")
        console = last_lines(self.console())
        with_console = type(lost)("; ".join(parts) + (f"; last on the console:\n{console}" if console else ""))
        with_console.console = self.console()
        return with_console

    def _feed_stderr(self, data: bytes) -> None:
        self._stderr += data[: _MAX_STDERR_BYTES - len(self._stderr)]


@contextlib.asynccontextmanager
async def running(
    argv_for: Callable[[Sockets], list[str]], keep_open: list[int], console: ConsoleLog
) -> AsyncIterator[QemuProcess]:
    """Run QEMU with `keep_open` inherited; killed and reaped at the end, whatever happens."""
    pairs = {name: socket.socketpair() for name in ("agent", "shell", "console", "qmp")}
    theirs = {name: pair[1] for name, pair in pairs.items()}
    argv = argv_for(Sockets(**{name: sock.fileno() for name, sock in theirs.items()}))
    try:
        process = await asyncio.create_subprocess_exec(
            *confined(argv),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.PIPE,
            pass_fds=[*keep_open, *(sock.fileno() for sock in theirs.values())],
            start_new_session=True,  # Ctrl-C at the terminal is the lab's to handle
        )
    except BaseException:
        for pair in pairs.values():
            pair[0].close()
        raise
    finally:
        for sock in theirs.values():
            sock.close()
    async with contextlib.AsyncExitStack() as stack:
        stack.push_async_callback(_end, process)
        reader, writer = await _stream(pairs["agent"][0])
        machine = QemuProcess(process, console, AgentChannel(reader, writer), pairs["shell"][0])
        stack.callback(machine.channel.close)
        stack.callback(machine.shell_socket.close)
        console_reader, console_writer = await _stream(pairs["console"][0])
        stack.callback(console_writer.close)
        tasks = [asyncio.create_task(_pump(console_reader, console.feed))]
        if process.stderr is not None:
            tasks.append(asyncio.create_task(_pump(process.stderr, machine._feed_stderr)))
        stack.push_async_callback(_settle, tasks)
        await _connect_qmp(machine, pairs["qmp"][0])
        stack.push_async_callback(_disconnect, machine.qmp)
        yield machine


async def _stream(sock: socket.socket) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    sock.setblocking(False)
    return await asyncio.open_unix_connection(sock=sock, limit=MAX_LINE_BYTES)


async def _pump(reader: asyncio.StreamReader, feed: Callable[[bytes], None]) -> None:
    with contextlib.suppress(ConnectionError):
        while data := await reader.read(65536):
            feed(data)


async def _settle(tasks: list[asyncio.Task[None]]) -> None:
    """The pumps end with their streams, once QEMU is gone; one that does not is cancelled."""
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


async def _connect_qmp(machine: QemuProcess, sock: socket.socket) -> None:
    sock.setblocking(False)
    try:
        async with asyncio.timeout(_QMP_SECONDS):
            await machine.qmp.connect(sock)
    except (QMPError, TimeoutError, OSError):
        sock.close()
        raise await machine._with_words(GuestLost("QEMU did not start")) from None


async def _disconnect(qmp: QMPClient) -> None:
    with contextlib.suppress(Exception):
        async with asyncio.timeout(1.0):
            await qmp.disconnect()


async def _end(process: asyncio.subprocess.Process) -> None:
    """SIGKILL: the machine is throwaway and its disks are read-only, so nothing is worth an orderly end."""
    if process.returncode is None:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
    async with asyncio.timeout(_EXIT_SECONDS):
        await process.wait()
