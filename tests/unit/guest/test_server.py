"""The accepting side: everything is taken, and what cannot be taken is named instead of spun on."""

from __future__ import annotations

import asyncio
import errno
import importlib.util
import socket
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from typing import Any

import pytest

from lab.guest.accepts import Accepts
from lab.guest.server import GATHER_SECONDS, Server
from lab.guest.worker import new_loop

HOST = "127.0.0.1"


@pytest.fixture(params=["asyncio", "uvloop"])
def loop(request: pytest.FixtureRequest) -> Iterator[asyncio.AbstractEventLoop]:
    if request.param == "uvloop" and importlib.util.find_spec("uvloop") is None:
        pytest.skip("uvloop is missing")
    loop = new_loop(request.param)
    yield loop
    loop.close()


def connect(stack: ExitStack, server: Server, each: int) -> None:
    for listener in server._listeners:
        for _ in range(each):
            stack.enter_context(socket.create_connection(listener.getsockname(), timeout=10))


def run(loop: asyncio.AbstractEventLoop, seconds: float) -> None:
    timer = loop.call_later(seconds, loop.stop)
    loop.run_forever()
    timer.cancel()


def run_until(loop: asyncio.AbstractEventLoop, condition: Callable[[], bool]) -> None:
    for _ in range(200):
        if condition():
            return
        run(loop, 0.05)
    raise AssertionError("it never came to be")


@pytest.fixture(params=[0.0, GATHER_SECONDS], ids=["at once", "gathered"])
def gather_seconds(request: pytest.FixtureRequest) -> float:
    return float(request.param)


def test_every_listener_is_drained(loop: asyncio.AbstractEventLoop, gather_seconds: float) -> None:
    with ExitStack() as stack:
        server = stack.enter_context(closing(Server(loop, [(HOST, 0, 32)] * 3, 60, loop.stop, gather_seconds)))
        server.start()
        connect(stack, server, 20)
        run(loop, 10)
        assert server.progress() == {"accepted": 60, "errors": {}}
        connect(stack, server, 1)  # more than expected are taken too
        run_until(loop, lambda: server.accepted == 63)


def test_connections_of_strangers_are_not_the_loads(loop: asyncio.AbstractEventLoop, gather_seconds: float) -> None:
    with ExitStack() as stack:
        server = stack.enter_context(
            closing(Server(loop, [(HOST, 0, 32)], 3, loop.stop, gather_seconds, accepts=Accepts(("127.77.",))))
        )
        server.start()
        connect(stack, server, 2)
        for last in range(1, 4):
            own = stack.enter_context(socket.socket())
            own.bind((f"127.77.1.{last}", 0))
            own.connect(server._listeners[0].getsockname())
        run(loop, 10)
        assert (server.outcome()["accepted"], server.outcome()["strangers"]) == (3, 2)


def test_a_listener_that_cannot_accept_is_named_once(loop: asyncio.AbstractEventLoop, gather_seconds: float) -> None:
    class Refusing(socket.socket):
        tries = 0

        def _accept(self) -> Any:
            Refusing.tries += 1
            raise OSError(errno.EMFILE, "Too many open files")

    with ExitStack() as stack:
        server = stack.enter_context(closing(Server(loop, [(HOST, 0, 8)] * 2, 8, loop.stop, gather_seconds)))
        poor = server._listeners[0]
        server._listeners[0] = Refusing(fileno=poor.detach())
        server.start()
        connect(stack, server, 4)
        run(loop, 0.2)
        assert server.progress() == {"accepted": 4, "errors": {"EMFILE": 1}}
        assert Refusing.tries == 1
        # it is still bound: connects to it stall or wait, they are not refused
        stack.enter_context(socket.create_connection(server._refused[0].getsockname(), timeout=10))


def test_a_connection_reset_before_it_was_accepted_is_passed_over(
    loop: asyncio.AbstractEventLoop, gather_seconds: float
) -> None:
    class Aborting(socket.socket):
        aborted = False

        def _accept(self) -> Any:
            if not Aborting.aborted:
                Aborting.aborted = True
                raise OSError(errno.ECONNABORTED, "Software caused connection abort")
            return super()._accept()  # type: ignore[misc]

    with ExitStack() as stack:
        server = stack.enter_context(closing(Server(loop, [(HOST, 0, 8)], 3, loop.stop, gather_seconds)))
        server._listeners[0] = Aborting(fileno=server._listeners[0].detach())
        server._listeners[0].setblocking(False)
        server.start()
        connect(stack, server, 3)
        run(loop, 10)
        assert server.progress() == {"accepted": 3, "errors": {}}


def test_a_port_in_use_leaves_nothing_open(loop: asyncio.AbstractEventLoop) -> None:
    with socket.socket() as taken:
        taken.bind((HOST, 0))
        taken.listen()
        port = taken.getsockname()[1]
        # an unclosed listener would be a ResourceWarning, which is an error here
        with pytest.raises(OSError, match=f"cannot listen on {HOST}:{port}: Address already in use") as caught:
            Server(loop, [(HOST, 0, 1), (HOST, port, 1)], 2, loop.stop)
    assert caught.value.errno == errno.EADDRINUSE


@pytest.mark.parametrize("waits", [True, False])
def test_a_drain_after_the_end_does_nothing(
    loop: asyncio.AbstractEventLoop, gather_seconds: float, waits: bool
) -> None:
    with ExitStack() as stack:
        server = Server(loop, [(HOST, 0, 8)], 3, loop.stop, gather_seconds)
        server.start()
        connect(stack, server, 1)
        if waits:
            server._wait_for_more()
        server.close()
        run(loop, 0.05)
