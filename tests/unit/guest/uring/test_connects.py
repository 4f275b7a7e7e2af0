"""Both ways to begin connections, against the same listeners: the same outcomes, from the same addresses.

Each test runs in a network namespace of its own.
"""

from __future__ import annotations

import errno
import os
import select
import signal
import socket
import time
from collections.abc import Callable
from contextlib import ExitStack
from typing import Any

import pytest

from lab.guest import engines
from lab.guest.connects import Connects, PolledConnects
from lab.guest.sources import source_runs, sources
from lab.guest.uring.connects import RingConnects
from tests.unit.namespaces import counters, first_that_works, in_namespace, leave_descriptors

PORT = 7777
LISTENER = ("127.0.0.1", PORT)
FIRST = 32768  # of the ports that the kernel chooses from, in a new namespace
SYN = "tcp flags & (syn | ack) == syn"  # in the words of nft
Make = Callable[[], Connects]


def polled() -> Connects:
    return PolledConnects([LISTENER], sources(0))


def by_ring() -> Connects:
    return RingConnects([LISTENER], source_runs(0))


def by_ring_that_cannot_bind() -> Connects:
    """As before 6.11."""
    return RingConnects([LISTENER], source_runs(0), binds=False)


@pytest.fixture(params=[polled, by_ring, by_ring_that_cannot_bind])
def make(request: pytest.FixtureRequest) -> Make:
    refusal = engines.ring_refusal()
    if request.param is not polled and refusal is not None:
        pytest.skip(refusal)
    found: Make = request.param
    return found


def listener(stack: ExitStack, backlog: int = 512) -> socket.socket:
    sock = stack.enter_context(socket.socket())
    sock.bind(("127.0.0.1", PORT))
    sock.listen(backlog)
    return sock


def awaited(connects: Connects, count: int) -> dict[int, int]:
    """So many outcomes that come later, each of which has to make `fileno` readable."""
    outcomes: dict[int, int] = {}
    while len(outcomes) < count:
        assert select.select([connects], [], [], 20)[0], "nothing comes"
        outcomes.update(connects.later())
    return outcomes


def names(fds: Any) -> list[list[Any]]:
    """The own addresses of sockets."""
    return [list(socket.socket(fileno=os.dup(fd)).getsockname()) for fd in fds]


def test_all_are_established(make: Make) -> None:
    def body() -> list[Any]:
        with ExitStack() as stack:
            listener(stack)
            connects = make()
            fds, outcomes = connects.begin([0] * 300)
            assert connects.begin([]) == ([], None)
            return [outcomes, names(fds)]

    assert in_namespace(body) == [None, [["127.77.1.1", FIRST + number] for number in range(300)]]


def test_refused_ones_have_their_errno(make: Make) -> None:
    def body() -> list[int]:
        connects = make()
        fds, outcomes = connects.begin([0] * 20)
        outcomes = {**(outcomes or {}), **{-number: -fd for number, fd in enumerate(fds, 1) if fd < 0}}
        return list((outcomes | awaited(connects, 20 - len(outcomes))).values())

    assert in_namespace(body) == [errno.ECONNREFUSED] * 20


@pytest.mark.parametrize(
    ("kind", "code"),
    [
        ("port-unreachable", errno.ECONNREFUSED),
        ("host-prohibited", errno.EHOSTUNREACH),
        ("net-unreachable", errno.ENETUNREACH),
    ],
)
def test_what_a_rule_refuses_by_icmp_has_its_errno(make: Make, kind: str, code: int) -> None:
    """The message comes while the connect has the socket: the error is sk_err_soft then, which a ring does not see
    (tcp_v4_err() in net/ipv4/tcp_ipv4.c).
    """

    def body() -> list[int]:
        chain = f"chain c {{ type filter hook input priority 0; {SYN} reject with icmp type {kind}; }}"
        legacy = f"--append INPUT --protocol tcp --syn --jump REJECT --reject-with icmp-{kind}"
        first_that_works(["nft", f"table ip t {{ {chain}; }}"], ["iptables-legacy", *legacy.split()])
        with ExitStack() as stack:
            listener(stack)
            connects = make()
            _, outcomes = connects.begin([0] * 20)
            outcomes = outcomes or {}
            return list((outcomes | awaited(connects, 20 - len(outcomes))).values())

    assert in_namespace(body) == [code] * 20


def test_what_stalls_is_answered_later(make: Make) -> None:
    """The kernel sends a SYN again after a second; then there is room for it."""

    def body() -> list[Any]:
        with ExitStack() as stack:
            sock = listener(stack, backlog=0)
            connects = make()
            fds, outcomes = connects.begin([0] * 5)
            assert outcomes is not None
            for _ in range(len(outcomes)):
                stack.enter_context(sock.accept()[0])
            sock.listen(10)
            late = awaited(connects, 5 - len(outcomes))
            return [len(outcomes), sorted({**outcomes, **late}) == sorted(fds), set(late.values()) == {0}]

    assert in_namespace(body) == [1, True, True]


def test_a_source_that_somebody_has_is_left_out(make: Make) -> None:
    def body() -> list[Any]:
        with ExitStack() as stack:
            listener(stack)
            for port in (FIRST, FIRST + 2):
                stack.enter_context(socket.socket()).bind(("127.77.1.1", port))
            connects = make()
            fds, outcomes = connects.begin([0] * 10)
            assert outcomes is None or set(outcomes.values()) == {0}
            return names(fds)

    found = in_namespace(body)
    assert sorted({address for address, _ in found}) == ["127.77.1.1"]
    ports = {port for _, port in found}
    assert len(ports) == 10
    assert not ports & {FIRST, FIRST + 2}


@pytest.mark.parametrize("first", [40000, 65530])
def test_sources_go_on_at_the_next_address(make: Make, first: int) -> None:
    def body() -> list[Any]:
        with open("/proc/sys/net/ipv4/ip_local_port_range", "w") as file:
            file.write(f"{first} {first + 5}")
        with ExitStack() as stack:
            listener(stack)
            return names(make().begin([0] * 10)[0])

    assert in_namespace(body) == [[f"127.77.1.{1 + n // 6}", first + n % 6] for n in range(10)]


def test_out_of_descriptors(make: Make) -> None:
    def body() -> list[int]:
        with ExitStack() as stack:
            listener(stack)
            connects = make()
            leave_descriptors(40)
            fds, outcomes = connects.begin([0] * 100)
            held = [fd for fd in fds if fd >= 0]
            assert outcomes is not None
            assert {fd: outcomes[fd] for fd in held} == dict.fromkeys(held, 0)
            return [len(held) > 30, *{fd for fd in fds if fd < 0}]

    assert in_namespace(body) == [True, -errno.EMFILE]


def test_what_is_abandoned_sends_no_more(make: Make) -> None:
    def body() -> list[int]:
        with ExitStack() as stack:
            listener(stack, backlog=0)
            connects = make()
            fds, outcomes = connects.begin([0] * 40)
            connects.abandon([fd for fd in fds if fd not in (outcomes or ())])
            sent = counters("Tcp")["OutSegs"]
            time.sleep(1.3)
            return [counters("Tcp")["OutSegs"] - sent, len(connects.later())]

    assert in_namespace(body) == [0, 0]


def test_a_killed_process_leaves_nothing(make: Make) -> None:
    """No thread of the kernel waits for a connect, and none outlives the process."""

    def body() -> list[Any]:
        with ExitStack() as stack:
            listener(stack, backlog=0)
            read_fd, write_fd = os.pipe()
            pid = os.fork()
            if pid == 0:
                connects = make()
                connects.begin([0] * 40)
                os.write(write_fd, b".")
                signal.pause()
            os.read(read_fd, 1)
            threads = len(os.listdir(f"/proc/{pid}/task"))
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
            for _ in range(100):
                waiting = open("/proc/net/tcp").read().count(" 02 ")  # SYN_SENT, include/net/tcp_states.h
                if not waiting:
                    break
                time.sleep(0.05)
            return [threads, waiting]

    assert in_namespace(body) == [1, 0]
