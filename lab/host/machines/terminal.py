"""The user's terminal joined to a shell in the guest, byte for byte."""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import socket
import sys
import termios
import tty
from collections.abc import Iterator, Mapping
from typing import Any

from lab.core.errors import ScenarioError
from lab.host.machines.machine import Machine

_SHELL_SECONDS = 12 * 3600.0
_MAX_SCRIPT = 1_000_000


async def run(argv: list[str]) -> int:
    """A shell that a program opens with this process's own terminal; its exit status."""
    process = await asyncio.create_subprocess_exec(*argv)
    try:
        return await process.wait()
    finally:
        if process.returncode is None:
            process.kill()


async def join(machine: Machine, guest: socket.socket) -> int:
    """Run a shell in the machine with this process's standard input and output; returns its exit status.

    Input that is no terminal is taken as a script.
    """
    guest.setblocking(False)
    arguments: dict[str, Any] = {}
    relays = [asyncio.create_task(_from_guest(guest))]
    if sys.stdin.isatty():
        columns, rows = shutil.get_terminal_size()
        arguments = {"rows": rows, "columns": columns, "terminal": os.environ.get("TERM", "linux")}
        relays.append(asyncio.create_task(_to_guest(guest)))
    else:
        arguments = {"script": await asyncio.to_thread(_read_script)}
    with _raw_terminal():
        try:
            result: Mapping[str, Any] = await machine.call("shell", deadline_seconds=_SHELL_SECONDS, **arguments)
            await asyncio.sleep(0.05)  # what the shell printed last is on its way
        finally:
            for relay in relays:
                relay.cancel()
            await asyncio.gather(*relays, return_exceptions=True)
    status = result.get("exit_status")
    return status if isinstance(status, int) and 0 <= status < 256 else 1


def _read_script() -> str:
    """Standard input, whole. Raises ScenarioError for more than the agent takes."""
    script = sys.stdin.read(_MAX_SCRIPT + 1)
    if len(script) > _MAX_SCRIPT:
        raise ScenarioError(f"the input has more than {_MAX_SCRIPT} characters", hint="give a shorter script")
    return script


async def _to_guest(guest: socket.socket) -> None:
    loop = asyncio.get_running_loop()
    ready = asyncio.Event()
    loop.add_reader(sys.stdin.fileno(), ready.set)
    try:
        while True:
            await ready.wait()
            ready.clear()
            data = os.read(sys.stdin.fileno(), 65536)
            if not data:
                return
            await loop.sock_sendall(guest, data)
    finally:
        loop.remove_reader(sys.stdin.fileno())


async def _from_guest(guest: socket.socket) -> None:
    loop = asyncio.get_running_loop()
    while data := await loop.sock_recv(guest, 65536):
        sys.stdout.buffer.write(data)
        sys.stdout.buffer.flush()


@contextlib.contextmanager
def _raw_terminal() -> Iterator[None]:
    """Every key goes to the guest, Ctrl-C too; the terminal is as before afterwards."""
    if not sys.stdin.isatty():
        yield
        return
    before = termios.tcgetattr(sys.stdin)
    tty.setraw(sys.stdin)
    try:
        yield
    finally:
        termios.tcsetattr(sys.stdin, termios.TCSADRAIN, before)
