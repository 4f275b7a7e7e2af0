"""What the load engine would be in plain asyncio: both sides with streams, or with a Protocol for each connection.

    python -m bench.asyncio_peers --style streams|protocol --loop asyncio|uvloop --connections N --processes N ...

Prints `ready`, begins at a line, prints `done SECONDS`, and holds until its input ends (bench/drive.py).
"""

from __future__ import annotations

import argparse
import asyncio
import os
import signal
import socket
import sys
import time
from collections.abc import Awaitable, Callable, Iterator
from typing import Any

from lab.guest.worker import new_loop

IN_FLIGHT = 1024  # connects of a client at once
_ADDRESS = "127.0.0.1"

Count = Callable[[Any], None]
Connect = Callable[[int, Count], Awaitable[None]]


async def _serve_streams(listener: socket.socket, count: Count) -> None:
    async def accepted(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        count((reader, writer))

    await asyncio.start_server(accepted, sock=listener, backlog=65535)


async def _connect_stream(port: int, count: Count) -> None:
    count(await asyncio.open_connection(_ADDRESS, port))


class _Counted(asyncio.Protocol):
    """Counts itself as soon as it is connected."""

    def __init__(self, count: Count) -> None:
        self._count = count

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._count(transport)


async def _serve_protocol(listener: socket.socket, count: Count) -> None:
    await asyncio.get_running_loop().create_server(lambda: _Counted(count), sock=listener, backlog=65535)


async def _connect_protocol(port: int, count: Count) -> None:
    await asyncio.get_running_loop().create_connection(lambda: _Counted(count), _ADDRESS, port)


_SERVE = {"streams": _serve_streams, "protocol": _serve_protocol}
_CONNECT: dict[str, Connect] = {"streams": _connect_stream, "protocol": _connect_protocol}


def _listeners(first_port: int, count: int) -> list[socket.socket]:
    made = []
    for port in range(first_port, first_port + count):
        listener = socket.socket()
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((_ADDRESS, port))
        listener.listen(65535)
        listener.setblocking(False)
        made.append(listener)
    return made


async def _counted(total: int, begin: Callable[[Count], Awaitable[None]]) -> list[Any]:
    """Begin, and return what was counted when it is `total`; whoever holds it holds the connections."""
    held: list[Any] = []
    complete = asyncio.get_running_loop().create_future()

    def count(connection: Any) -> None:
        held.append(connection)
        if len(held) == total:
            complete.set_result(None)

    await begin(count)
    await complete
    return held


async def _server(style: str, listeners: list[socket.socket], total: int) -> list[Any]:
    async def begin(count: Count) -> None:
        for listener in listeners:
            await _SERVE[style](listener, count)

    return await _counted(total, begin)


async def _client(style: str, ports: list[int], total: int) -> list[Any]:
    async def lane(left: Iterator[int], count: Count) -> None:
        for number in left:
            await _CONNECT[style](ports[number % len(ports)], count)

    async def begin(count: Count) -> None:
        left = iter(range(total))
        await asyncio.gather(*(lane(left, count) for _ in range(IN_FLIGHT)))

    return await _counted(total, begin)


class _Worker:
    """A forked process that says a byte when it is ready and one when it is done, and holds until it is killed."""

    def __init__(self, loop_kind: str, prepare: Callable[[], Callable[[], Awaitable[list[Any]]]]) -> None:
        go_read, self._go = os.pipe()
        self._said, say = os.pipe()
        self.pid = os.fork()
        if self.pid == 0:
            try:
                work = prepare()
                os.write(say, b"r")
                os.read(go_read, 1)
                loop = new_loop(loop_kind)
                asyncio.set_event_loop(loop)
                held = loop.run_until_complete(work())
                os.write(say, b"d")
                signal.pause()
                del held
            finally:
                os._exit(1)
        os.close(go_read)
        os.close(say)

    def go(self) -> None:
        """Let it begin."""
        os.write(self._go, b"g")

    def wait(self) -> None:
        """Until it says its next byte."""
        if not os.read(self._said, 1):
            sys.exit("a worker ended without a word")


def main() -> None:
    """Drive both sides as the arguments say."""
    options = _options()
    shares = [
        options.connections // options.processes + (number < options.connections % options.processes)
        for number in range(options.processes)
    ]

    def server(number: int) -> Callable[[], Callable[[], Awaitable[list[Any]]]]:
        def prepare() -> Callable[[], Awaitable[list[Any]]]:
            listeners = _listeners(options.first_port + number * options.listeners, options.listeners)
            return lambda: _server(options.style, listeners, shares[number])

        return prepare

    def client(number: int) -> Callable[[], Callable[[], Awaitable[list[Any]]]]:
        first = options.first_port + number * options.listeners
        ports = list(range(first, first + options.listeners))
        return lambda: lambda: _client(options.style, ports, shares[number])

    bodies = [server(number) for number in range(options.processes)]
    bodies += [client(number) for number in range(options.processes)]
    workers = [_Worker(options.loop, body) for body in bodies]
    try:
        for worker in workers:
            worker.wait()
        _say("ready")
        sys.stdin.readline()
        started = time.monotonic()
        for worker in workers:
            worker.go()
        for worker in workers:
            worker.wait()
        _say(f"done {time.monotonic() - started:.6f}")
        sys.stdin.readline()
    finally:
        for worker in workers:
            os.kill(worker.pid, signal.SIGKILL)
            os.waitpid(worker.pid, 0)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    parser.add_argument("--style", choices=list(_SERVE), required=True)
    parser.add_argument("--loop", choices=["asyncio", "uvloop"], default="asyncio")
    for name in ("connections", "processes", "listeners", "first-port"):
        parser.add_argument(f"--{name}", type=int, required=True)
    return parser.parse_args()


def _say(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
