"""Connections that come and go: what the other side sees of each way to close, and when it sees it."""

from __future__ import annotations

import asyncio
import importlib.util
import os
import select
import socket
from array import array
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import pytest

from lab.guest import churn as churn_module
from lab.guest import client as client_module
from lab.guest import connects
from lab.guest.churn import CLOSES, ChurnClient, ChurnServer
from lab.guest.worker import new_loop

HOST = "127.0.0.1"
may_vanish = pytest.mark.skipif(os.geteuid() != 0, reason="vanishing needs root: CAP_NET_ADMIN")
WAYS = [pytest.param(close, marks=may_vanish) if close == "vanish" else close for close in CLOSES]


@pytest.fixture(params=["asyncio", "uvloop"])
def loop(request: pytest.FixtureRequest) -> Iterator[asyncio.AbstractEventLoop]:
    if request.param == "uvloop" and importlib.util.find_spec("uvloop") is None:
        pytest.skip("uvloop is missing")
    loop = new_loop(request.param)
    yield loop
    loop.close()


@pytest.fixture
def stack() -> Iterator[ExitStack]:
    with ExitStack() as stack:
        yield stack


@pytest.fixture
def listener(stack: ExitStack) -> socket.socket:
    sock = stack.enter_context(socket.socket())
    sock.bind((HOST, 0))
    sock.listen(512)
    return sock


@pytest.fixture
def make_client(loop: asyncio.AbstractEventLoop, listener: socket.socket, stack: ExitStack) -> Callable[..., Any]:
    def make(connections: int, **options: Any) -> ChurnClient:
        client = ChurnClient(loop, [(*listener.getsockname(), connections)], loop.stop, **options)
        stack.callback(client.close)
        return client

    return make


def run(loop: asyncio.AbstractEventLoop, seconds: float) -> bool:
    """Run until something stops the loop; False when the time was over first."""
    late: list[bool] = []

    def on_late() -> None:
        late.append(True)
        loop.stop()

    timer = loop.call_later(seconds, on_late)
    loop.run_forever()
    timer.cancel()
    return not late


def run_until(loop: asyncio.AbstractEventLoop, condition: Callable[[], bool]) -> None:
    for _ in range(200):
        if condition():
            return
        run(loop, 0.05)
    raise AssertionError("it never came to be")


def accepted(listener: socket.socket, stack: ExitStack, count: int) -> list[socket.socket]:
    listener.settimeout(10)
    peers = [stack.enter_context(listener.accept()[0]) for _ in range(count)]
    for peer in peers:
        peer.settimeout(10)
    return peers


def heard(socks: list[socket.socket], quiet_seconds: float = 10.0) -> list[str]:
    """What each socket has heard of its other end, once all have, or nothing new has come for so long."""
    of_fd = {sock.fileno(): sock for sock in socks}
    told: dict[int, str] = {}
    poll = select.poll()
    for fd in of_fd:
        poll.register(fd, select.POLLIN)
    while len(told) < len(of_fd) and (answered := poll.poll(quiet_seconds * 1000)):
        for fd, _ in answered:
            poll.unregister(fd)
            try:
                told[fd] = "fin" if of_fd[fd].recv(1) == b"" else "data"
            except ConnectionResetError:
                told[fd] = "reset"
    return [told.get(fd, "nothing") for fd in of_fd]


def have_heard_nothing(socks: list[socket.socket]) -> bool:
    return set(heard(socks, 0.2)) == {"nothing"}


class TestClient:
    @pytest.mark.parametrize("close", WAYS)
    @pytest.mark.parametrize("hold_seconds", [0.0, 0.1])
    def test_what_the_other_side_sees(
        self,
        loop: asyncio.AbstractEventLoop,
        listener: socket.socket,
        make_client: Callable[..., ChurnClient],
        stack: ExitStack,
        close: str,
        hold_seconds: float,
    ) -> None:
        client = make_client(3, close=close, hold_seconds=hold_seconds)
        client.start()
        assert client.settled or run(loop, 10)
        peers = accepted(listener, stack, 3)
        if close == "vanish":
            assert have_heard_nothing(peers)
        else:
            assert heard(peers) == ["fin" if close == "half" else close] * 3
        outcome = client.outcome()
        assert (outcome["attempted"], outcome["held"], outcome["open"], outcome["pending"]) == (3, 3, 0, 0)
        assert (outcome["lost"], outcome["open_peak"]) == (0, 3)
        assert outcome["runs"] == [("held", 3)]

    def test_one_is_open_for_its_time(
        self,
        loop: asyncio.AbstractEventLoop,
        listener: socket.socket,
        make_client: Callable[..., ChurnClient],
        stack: ExitStack,
    ) -> None:
        client = make_client(5, hold_seconds=0.5)
        began = loop.time()
        client.start()
        peers = accepted(listener, stack, 5)
        run_until(loop, lambda: client.held == 5)
        if loop.time() - began < 0.4:  # a busy machine may have slept through it
            assert (client.open, client.settled) == (5, False)
            assert have_heard_nothing(peers[:1])
        assert client.settled or run(loop, 10)
        assert loop.time() - began >= 0.49
        assert client.open == 0
        assert heard(peers) == ["fin"] * 5

    def test_batches_end_in_the_order_in_which_they_came(
        self,
        loop: asyncio.AbstractEventLoop,
        make_client: Callable[..., ChurnClient],
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        monkeypatch.setattr(client_module, "_BATCH", 10)
        client = make_client(100, hold_seconds=0.2)
        ended: list[int] = []
        end_all = client._end_all

        def noted(fds: list[int]) -> None:
            ended.append(len(fds))
            end_all(fds)

        monkeypatch.setattr(client, "_end_all", noted)
        client.start()
        assert run(loop, 10)
        assert ended == [10] * 10
        assert (client.held, client.open, client.open_peak) == (100, 0, 100)

    def test_descriptors_are_used_again(
        self,
        loop: asyncio.AbstractEventLoop,
        make_client: Callable[..., ChurnClient],
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        monkeypatch.setattr(client_module, "_BATCH", 8)
        client = make_client(200)
        closed: list[int] = []
        end = client._end

        def note(fds: list[int]) -> None:
            closed.extend(fds)
            end(fds)

        monkeypatch.setattr(client, "_end", note)
        client.start()
        assert client.settled or run(loop, 10)
        assert client.open_peak == 8
        assert len(closed) == 200
        assert max(closed) < 150

    def test_what_the_other_side_closed_first_is_lost(
        self,
        loop: asyncio.AbstractEventLoop,
        listener: socket.socket,
        make_client: Callable[..., ChurnClient],
        stack: ExitStack,
    ) -> None:
        client = make_client(4, hold_seconds=0.5)
        client.start()
        accepted(listener, stack, 4)[1].close()
        assert client.settled or run(loop, 10)
        outcome = client.outcome()
        assert (outcome["held"], outcome["lost"], outcome["open"], outcome["pending"]) == (3, 1, 0, 0)
        assert outcome["runs"] == [("held", 1), ("lost", 1), ("held", 2)]

    def test_after_the_end_everything_stays_as_it_is(
        self,
        loop: asyncio.AbstractEventLoop,
        listener: socket.socket,
        make_client: Callable[..., ChurnClient],
        stack: ExitStack,
    ) -> None:
        client = make_client(4, hold_seconds=0.3)
        client.start()
        peers = accepted(listener, stack, 4)
        outcome = client.outcome()
        assert (outcome["held"], outcome["open"]) == (4, 4)
        assert not run(loop, 0.5)
        assert client.open == 4
        assert have_heard_nothing(peers)

    def test_what_is_established_only_at_the_end_stays_too(
        self,
        listener: socket.socket,
        make_client: Callable[..., ChurnClient],
        monkeypatch: pytest.MonkeyPatch,
        stack: ExitStack,
    ) -> None:
        client = make_client(4)

        with monkeypatch.context() as patched:
            # a poll that sees no answer yet
            patched.setattr(connects, "poll_all", lambda fds, events: array("h", [0]) * len(fds))
            client.start()
        outcome = client.outcome()
        assert (outcome["held"], outcome["open"]) == (4, 4)
        assert have_heard_nothing(accepted(listener, stack, 4))

    def test_refused_ones_fail_and_the_others_come_and_go(
        self, loop: asyncio.AbstractEventLoop, listener: socket.socket, stack: ExitStack
    ) -> None:
        closed = stack.enter_context(socket.socket())
        closed.bind((HOST, 0))  # bound, never listening
        targets = [(*listener.getsockname(), 3), (*closed.getsockname(), 2)]
        client = ChurnClient(loop, targets, loop.stop, hold_seconds=0.05)
        stack.callback(client.close)
        client.start()
        assert run(loop, 10)
        outcome = client.outcome()
        assert (outcome["held"], outcome["failed"], outcome["open"]) == (3, 2, 0)
        assert outcome["errors"] == {"ECONNREFUSED": 2}

    def test_a_rate_spreads_them(
        self, loop: asyncio.AbstractEventLoop, make_client: Callable[..., ChurnClient]
    ) -> None:
        client = make_client(40, rate_per_second=200.0)
        began = loop.time()
        client.start()
        assert client.attempted == 1
        assert run(loop, 10)
        assert loop.time() - began >= 0.19
        assert (client.held, client.open) == (40, 0)
        assert client.open_peak < 40


class TestServer:
    @pytest.fixture(params=[0.0, 0.01], ids=["at once", "gathered"])
    def gather_seconds(self, request: pytest.FixtureRequest) -> float:
        return float(request.param)

    @pytest.fixture
    def make_server(
        self, loop: asyncio.AbstractEventLoop, stack: ExitStack, gather_seconds: float
    ) -> Callable[..., ChurnServer]:
        def make(close: str) -> ChurnServer:
            server = ChurnServer(loop, [(HOST, 0, 64)] * 2, 20, loop.stop, gather_seconds, close)
            stack.callback(server.close)
            server.start()
            return server

        return make

    @staticmethod
    def connect(stack: ExitStack, server: ChurnServer) -> list[socket.socket]:
        """Ten connections to each listener."""
        addresses = [listener.getsockname() for listener in server._listeners] * 10
        return [stack.enter_context(socket.create_connection(address, timeout=10)) for address in addresses]

    @pytest.mark.parametrize("close", ["fin", "reset"])
    def test_it_closes_what_the_client_closed_and_nothing_else(
        self, loop: asyncio.AbstractEventLoop, make_server: Callable[..., ChurnServer], stack: ExitStack, close: str
    ) -> None:
        server = make_server(close)
        clients = self.connect(stack, server)
        for client in clients[:4]:  # closed before they are accepted
            client.shutdown(socket.SHUT_WR)
        run_until(loop, lambda: server.accepted == 20)
        for client in clients[4:8]:
            client.shutdown(socket.SHUT_WR)
        for client in clients[8:10]:
            client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, churn_module._NO_LINGER)
            client.close()
        run_until(loop, lambda: len(server._watched) == 10)
        assert heard(clients[:8]) == ["fin"] * 8
        run(loop, 0.1)
        assert server.progress() == {"accepted": 20, "errors": {}}
        assert len(server._watched) == 10
        clients[10].shutdown(socket.SHUT_WR)  # and so on
        run_until(loop, lambda: len(server._watched) == 9)
        assert heard(clients[10:11]) == ["fin"]
        assert have_heard_nothing(clients[11:])

    @may_vanish
    def test_it_vanishes_without_a_word(
        self, loop: asyncio.AbstractEventLoop, make_server: Callable[..., ChurnServer], stack: ExitStack
    ) -> None:
        server = make_server("vanish")
        clients = self.connect(stack, server)
        before = len(os.listdir("/proc/self/fd"))
        run_until(loop, lambda: server.accepted == 20)
        assert len(os.listdir("/proc/self/fd")) <= before + 1  # nothing is kept; uvloop opens one of its own
        assert have_heard_nothing(clients)
        clients[0].sendall(b"anybody there?")
        clients[0].settimeout(10)
        with pytest.raises(ConnectionResetError):
            clients[0].recv(1)

    def test_closing_it_closes_everything(
        self, loop: asyncio.AbstractEventLoop, make_server: Callable[..., ChurnServer], stack: ExitStack
    ) -> None:
        before = len(os.listdir("/proc/self/fd"))
        server = make_server("fin")
        clients = self.connect(stack, server)
        run_until(loop, lambda: server.accepted == 20)
        clients[0].shutdown(socket.SHUT_WR)
        server._gather_ends()  # what waits for its turn finds nothing to do
        server.close()
        server.close()
        run(loop, 0.05)
        assert heard(clients) == ["fin"] * 20
        assert len(os.listdir("/proc/self/fd")) <= before + 20 + 1

    def test_a_port_in_use_leaves_nothing_open(self, loop: asyncio.AbstractEventLoop, listener: socket.socket) -> None:
        before = len(os.listdir("/proc/self/fd"))
        with pytest.raises(OSError, match="cannot listen on"):
            ChurnServer(loop, [(*listener.getsockname(), 1)], 2, loop.stop)
        assert len(os.listdir("/proc/self/fd")) == before


def test_one_that_may_not_vanish_says_so(loop: asyncio.AbstractEventLoop, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(churn_module, "_TCP_REPAIR", 9999)  # no such option
    before = len(os.listdir("/proc/self/fd"))
    with pytest.raises(OSError, match="cannot vanish, which needs CAP_NET_ADMIN: Protocol not available"):
        ChurnClient(loop, [], loop.stop, close="vanish")
    with pytest.raises(OSError, match="cannot vanish"):
        ChurnServer(loop, [(HOST, 0, 1)], 1, loop.stop, close="vanish")
    assert len(os.listdir("/proc/self/fd")) == before
