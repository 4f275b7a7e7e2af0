"""Both ways to accept, from the same clients: how many, whose, and what keeps a listener from accepting more."""

from __future__ import annotations

import errno
import socket
from collections.abc import Callable
from contextlib import ExitStack
from typing import Any

import pytest

from lab.guest import engines
from lab.guest.accepts import Accepts
from lab.guest.uring.accepts import RingAccepts
from tests.unit.namespaces import in_namespace, leave_descriptors

Make = Callable[[tuple[str, ...]], Accepts]


@pytest.fixture(params=[Accepts, RingAccepts])
def make(request: pytest.FixtureRequest) -> Make:
    refusal = engines.ring_refusal()
    if request.param is RingAccepts and refusal is not None:
        pytest.skip(refusal)
    found: Make = request.param
    return found


def listener(stack: ExitStack) -> socket.socket:
    sock = stack.enter_context(socket.socket())
    sock.bind(("127.0.0.1", 7777))
    sock.listen(256)
    sock.setblocking(False)
    return sock


def connect(stack: ExitStack, *sources: str) -> None:
    for source in sources:
        sock = stack.enter_context(socket.socket())
        sock.bind((source, 0))
        sock.connect(("127.0.0.1", 7777))


def test_strangers_are_counted_apart(make: Make) -> None:
    def body() -> list[Any]:
        with ExitStack() as stack:
            sock, accepts = listener(stack), make(("127.77.", "198.51.100.1"))
            found = []
            for sources in ((), ("127.77.1.1", "127.0.0.1", "127.77.1.1", "127.77.9.9", "127.7.7.1"), ("127.77.1.1",)):
                connect(stack, *sources)
                taken = accepts.take(sock)
                found.append([len(set(taken.fds)), taken.strangers, taken.error])
            return found

    assert in_namespace(body) == [[0, 0, 0], [5, 2, 0], [1, 0, 0]]


def test_out_of_descriptors(make: Make) -> None:
    def body() -> list[Any]:
        with ExitStack() as stack:
            sock, accepts = listener(stack), make(("",))
            connect(stack, *["127.77.1.1"] * 60)
            leave_descriptors(10)
            taken = accepts.take(sock)
            return [0 < len(taken.fds) < 60, taken.strangers, taken.error]

    assert in_namespace(body) == [True, 0, errno.EMFILE]


def test_a_listener_does_not_take_the_others_turn(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lab.guest.accepts._MOST", 4)
    monkeypatch.setattr("lab.guest.uring.accepts._MOST", 4)

    def body() -> list[int]:
        with ExitStack() as stack:
            sock, accepts = listener(stack), make(("",))
            connect(stack, *["127.77.1.1"] * 6)
            return [len(accepts.take(sock).fds) for _ in range(3)]

    assert in_namespace(body) == [4, 2, 0]
