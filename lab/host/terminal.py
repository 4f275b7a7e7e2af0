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

from lab.host.provision.machine import Machine

_SHELL_SECONDS = 12 * 3600.0
_END_OF_INPUT = b"\x04"  # what Ctrl-D sends


async def join(machine: Machine, guest: socket.socket) -> int:
    """Run a shell in the machine with this process's standard input and output; returns its exit status."""
    guest.setblocking(False)
    columns, rows = shutil.get_terminal_size()
    call = machine.call(
        "shell",
        deadline_seconds=_SHELL_SECONDS,
        rows=rows,
        columns=columns,
        terminal=os.environ.get("TERM", "linux"),
    )
    with _raw_terminal():
        relays = [asyncio.create_task(_to_guest(guest)), asyncio.create_task(_from_guest(guest))]
        try:
            result: Mapping[str, Any] = await call
            await asyncio.sleep(0.05)  # what the shell printed last is on its way
        finally:
            for relay in relays:
                relay.cancel()
            await asyncio.gather(*relays, return_exceptions=True)
    status = result.get("exit_status")
    return status if isinstance(status, int) and 0 <= status < 256 else 1


async def _to_guest(guest: socket.socket) -> None:
    loop = asyncio.get_running_loop()
    ready = asyncio.Event()
    loop.add_reader(sys.stdin.fileno(), ready.set)
    try:
        while True:
            await ready.wait()
            ready.clear()
            data = os.read(sys.stdin.fileno(), 65536)
            await loop.sock_sendall(guest, data or _END_OF_INPUT)
            if not data:
                return
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
