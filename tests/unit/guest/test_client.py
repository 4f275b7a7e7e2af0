"""The connecting side against plain listeners: each outcome, the window, and what is found at the end."""

from __future__ import annotations

import asyncio
import errno
import importlib.util
import os
import socket
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack

import pytest

from lab.guest import client as client_module
from lab.guest import states
from lab.guest.client import Client
from lab.guest.connects import PolledConnects
from lab.guest.files import close_all
from lab.guest.states import Target
from lab.guest.worker import new_loop

HOST = "127.0.0.1"
MakeClient = Callable[..., Client]


@pytest.fixture(params=["asyncio", "uvloop"])
def loop(request: pytest.FixtureRequest) -> Iterator[asyncio.AbstractEventLoop]:
    if request.param == "uvloop" and importlib.util.find_spec("uvloop") is None:
        pytest.skip("uvloop is missing")
    loop = new_loop(request.param)
    yield loop
    loop.close()


@pytest.fixture
def listener() -> Iterator[socket.socket]:
    with socket.socket() as sock:
        sock.bind((HOST, 0))
        sock.listen(512)
        yield sock


@pytest.fixture
def make_client(loop: asyncio.AbstractEventLoop) -> Iterator[MakeClient]:
    with ExitStack() as stack:

        def make(*targets: Target, rate_per_second: float = 0.0) -> Client:
            client = Client(loop, targets, loop.stop, rate_per_second)
            stack.callback(client.close)
            return client

        yield make


def port_of(sock: socket.socket) -> int:
    return int(sock.getsockname()[1])


def run(loop: asyncio.AbstractEventLoop, seconds: float) -> bool:
    """Run until the client stops the loop; False when the time was over first."""
    late: list[bool] = []

    def on_late() -> None:
        late.append(True)
        loop.stop()

    timer = loop.call_later(seconds, on_late)
    loop.run_forever()
    timer.cancel()
    return not late


def test_all_are_held(loop: asyncio.AbstractEventLoop, listener: socket.socket, make_client: MakeClient) -> None:
    client = make_client((HOST, port_of(listener), 300))
    client.start()
    assert run(loop, 10)
    assert client.settled
    outcome = client.outcome()
    assert outcome["held"] == outcome["attempted"] == 300
    assert outcome["runs"] == [("held", 300)]
    assert outcome["errors"] == {}
    assert outcome["stalled"] == {"examined": 0, "syn_retransmitted": 0, "syns": 0}


def test_what_is_held_is_open(
    loop: asyncio.AbstractEventLoop, listener: socket.socket, make_client: MakeClient
) -> None:
    client = make_client((HOST, port_of(listener), 30))
    client.start()
    assert run(loop, 10)
    listener.accept()[0].close()
    outcome = client.outcome()
    assert (outcome["open"], outcome["open_peak"], outcome["lost"]) == (29, 30, 1)


def test_a_rate_spreads_them(loop: asyncio.AbstractEventLoop, listener: socket.socket, make_client: MakeClient) -> None:
    client = make_client((HOST, port_of(listener), 40), rate_per_second=200.0)
    began = loop.time()
    client.start()
    assert client.attempted == 1
    assert run(loop, 10)
    assert client.held == 40
    assert loop.time() - began >= 0.19


def test_a_rate_goes_on_after_the_window_was_full(
    loop: asyncio.AbstractEventLoop,
    full_listener: socket.socket,
    make_client: MakeClient,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(client_module, "_WINDOW", 8)
    client = make_client((HOST, port_of(full_listener), 50), rate_per_second=10_000.0)
    client.start()
    for _ in range(20):
        run(loop, 0.05)
        client.tick()
    assert (client.attempted, client.pending) == (50, 50)


def test_refused_ones_are_failed_and_close_their_descriptor(
    loop: asyncio.AbstractEventLoop, listener: socket.socket, make_client: MakeClient
) -> None:
    with socket.socket() as closed:
        closed.bind((HOST, 0))  # bound, never listening
        client = make_client((HOST, port_of(listener), 3), (HOST, port_of(closed), 2))
        before = len(os.listdir("/proc/self/fd"))
        client.start()
        assert run(loop, 10)
        outcome = client.outcome()
        assert len(os.listdir("/proc/self/fd")) <= before + 4  # uvloop opens one of its own when it runs first
    assert outcome["errors"] == {"ECONNREFUSED": 2}
    assert outcome["runs"] == [("held", 1), ("failed", 1), ("held", 1), ("failed", 1), ("held", 1)]


def test_an_address_that_cannot_be_reached_is_an_outcome(
    loop: asyncio.AbstractEventLoop, make_client: MakeClient
) -> None:
    client = make_client(("255.255.255.255", 9, 2))  # no TCP to a broadcast address
    client.start()
    if not client.settled:
        assert run(loop, 10)
    assert client.failed == 2
    assert set(client.errors) <= {"ENETUNREACH", "EACCES", "EHOSTUNREACH", "ECONNREFUSED"}


def test_an_unknown_error_number_is_named_by_its_number(
    loop: asyncio.AbstractEventLoop, make_client: MakeClient
) -> None:
    client = make_client((HOST, 9, 1))
    client._fail(0, 4999)
    assert client.errors == {"errno 4999": 1}
    assert errno.errorcode.get(4999) is None


def test_no_connection_at_all(loop: asyncio.AbstractEventLoop, make_client: MakeClient) -> None:
    client = make_client()
    client.start()
    assert client.settled
    assert client.outcome()["runs"] == []


def test_targets_take_turns() -> None:
    assert list(states.round_robin([(HOST, 1, 3), (HOST, 2, 1), (HOST, 3, 2)])) == [0, 1, 2, 0, 0, 2]
    assert list(states.round_robin([])) == []


@pytest.fixture
def full_listener() -> Iterator[socket.socket]:
    """A listener whose backlog is full: further connects stay unanswered."""
    with ExitStack() as stack:
        sock = stack.enter_context(socket.socket())
        sock.bind((HOST, 0))
        sock.listen(0)
        for _ in range(4):
            filler = stack.enter_context(socket.socket())
            filler.setblocking(False)
            filler.connect_ex(sock.getsockname())
        yield sock


def test_stalled_connects_do_not_hide_the_rest(
    loop: asyncio.AbstractEventLoop,
    full_listener: socket.socket,
    make_client: MakeClient,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(client_module, "_WINDOW", 8)
    monkeypatch.setattr(client_module, "_BATCH", 8)
    client = make_client((HOST, port_of(full_listener), 50))
    client.start()
    assert not run(loop, 0.05)
    assert client.attempted == 8
    for _ in range(4):
        client.tick()
        assert not run(loop, 0.05)
    assert client.attempted == 50
    outcome = client.outcome()
    assert outcome["runs"] == [("stalled", 50)]
    assert outcome["stalled"]["examined"] == outcome["pending"] == 50


def test_the_window_stays_while_answers_come(
    loop: asyncio.AbstractEventLoop, listener: socket.socket, make_client: MakeClient
) -> None:
    client = make_client((HOST, port_of(listener), 300))
    client.start()
    assert run(loop, 10)
    client.tick()
    assert client._window == client_module._WINDOW


def test_nothing_is_opened_after_the_end(
    loop: asyncio.AbstractEventLoop,
    full_listener: socket.socket,
    make_client: MakeClient,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(client_module, "_WINDOW", 8)
    client = make_client((HOST, port_of(full_listener), 50))
    client.start()
    outcome = client.outcome()
    client.tick()
    assert not run(loop, 0.05)
    assert client.attempted == outcome["attempted"] == 8
    assert outcome["runs"] == [("stalled", 8), ("untried", 42)]


def test_lost_ones_are_found_once(
    loop: asyncio.AbstractEventLoop, listener: socket.socket, make_client: MakeClient
) -> None:
    client = make_client((HOST, port_of(listener), 5))
    client.start()
    assert run(loop, 10)
    listener.accept()[0].close()
    for _ in range(2):
        outcome = client.outcome()
        assert (outcome["held"], outcome["lost"], outcome["pending"]) == (4, 1, 0)
        assert outcome["runs"] == [("lost", 1), ("held", 4)]


class Believing(PolledConnects):
    """Takes every connect for established that has begun."""

    def begin(self, targets: Sequence[int]) -> tuple[Sequence[int], None]:
        return super().begin(targets)[0], None


def test_what_is_not_established_is_not_held(
    loop: asyncio.AbstractEventLoop, listener: socket.socket, full_listener: socket.socket
) -> None:
    """Whatever was said of it."""
    ports = (port_of(listener), port_of(full_listener))
    connects = Believing([(HOST, port) for port in ports])
    client = Client(loop, [(HOST, port, 3) for port in ports], loop.stop, connects=connects)
    try:
        client.start()
        assert client.held == 6
        for _ in range(2):
            outcome = client.outcome()
            assert (outcome["held"], outcome["lost"], outcome["pending"]) == (3, 0, 3)
            assert [port[1:] for port in outcome["ports"]] == [(3, 0), (0, 3)]
        assert outcome["stalled"]["examined"] == 0 and len(client._fds) == 6 and list(client._fds).count(-1) == 3
    finally:
        client.close()


def test_runs_are_bounded(
    loop: asyncio.AbstractEventLoop, make_client: MakeClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(states, "MAX_RUNS", 3)
    client = make_client((HOST, 1, 10))
    client._states[:] = bytes([states.HELD, states.FAILED] * 5)
    assert states.runs(client._states) == [("held", 1), ("failed", 1), ("held", 1), ("cut", 7)]


def test_descriptors_are_closed_and_no_other() -> None:
    opened = [os.dup(0) for _ in range(6)]
    kept = opened.pop(2)
    close_all(opened)
    close_all([])
    os.close(kept)  # was still open
    for fd in opened:
        with pytest.raises(OSError):
            os.fstat(fd)
