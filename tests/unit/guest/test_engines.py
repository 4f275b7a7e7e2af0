"""Which engine carries a load, and why it is not io_uring."""

from __future__ import annotations

import errno
import os

import pytest

from lab.guest import engines
from lab.guest.connects import PolledConnects
from lab.guest.engines import EPOLL, IO_URING, Engine
from lab.guest.spread import Shard
from lab.guest.uring import ring

ALL = frozenset({ring.ACCEPT, ring.ASYNC_CANCEL, ring.CONNECT, ring.SOCKET})


def kernel_with(monkeypatch: pytest.MonkeyPatch, operations: frozenset[int]) -> None:
    monkeypatch.setattr(ring, "supported", lambda: operations)


def test_io_uring_where_the_kernel_has_it(monkeypatch: pytest.MonkeyPatch) -> None:
    kernel_with(monkeypatch, ALL)
    assert engines.choose("", "ipv4") == engines.choose(IO_URING, "ipv4") == Engine(IO_URING, None)
    assert engines.choose(EPOLL, "ipv4") == Engine(EPOLL, "it was asked for")


@pytest.mark.parametrize("family", ["ipv6", "both"])
def test_what_io_uring_does_not_cover(monkeypatch: pytest.MonkeyPatch, family: str) -> None:
    kernel_with(monkeypatch, ALL)
    assert engines.choose("", family) == Engine(EPOLL, "io_uring is for IPv4 alone")


def test_an_older_kernel_says_what_it_lacks(monkeypatch: pytest.MonkeyPatch) -> None:
    kernel_with(monkeypatch, ALL - {ring.SOCKET})
    assert engines.choose("", "ipv4") == Engine(EPOLL, "this kernel's io_uring has no IORING_OP_SOCKET")


@pytest.mark.parametrize(
    ("code", "reason"),
    [
        (errno.ENOSYS, "this kernel has no io_uring"),
        (errno.EPERM, "io_uring is not allowed here"),
        (errno.ENOMEM, "io_uring: ENOMEM"),
        (errno.EINVAL, "io_uring: EINVAL"),  # 5.18 and older do not know a flag
    ],
)
def test_a_refusal_is_a_reason(monkeypatch: pytest.MonkeyPatch, code: int, reason: str) -> None:
    def refuse() -> frozenset[int]:
        raise OSError(code, "io_uring_setup")

    monkeypatch.setattr(ring, "supported", refuse)
    assert engines.choose("", "ipv4") == Engine(EPOLL, reason)


def test_nothing_of_the_probe_stays_open() -> None:
    before = os.listdir("/proc/self/fd")
    engines.ring_refusal()
    assert os.listdir("/proc/self/fd") == before


def test_a_shard_without_a_ring_is_polled() -> None:
    shard = Shard((("127.0.0.1", 7777, 1),), 1, by_ring=False)
    connects = engines.connects(shard)
    try:
        assert isinstance(connects, PolledConnects)
    finally:
        connects.close()
