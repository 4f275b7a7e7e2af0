"""Floods: every packet an entry of its own, and nobody answers."""

from __future__ import annotations

import asyncio
import errno
import heapq
import ipaddress
import os
import signal
from collections.abc import Callable, Iterator
from itertools import count, pairwise
from typing import Any

import pytest

from lab.guest import flood as flood_module
from lab.guest import senders
from lab.guest.flood import Flood, Receiver, Share, shares
from lab.guest.packets import HALF_OPEN, UDP
from lab.guest.senders import ADDRESSES
from tests.unit.free_ports import free_row
from tests.unit.namespaces import counters, entries, first_that_works, in_namespace, track

KINDS = [HALF_OPEN, UDP]
PORT = 7777


@pytest.fixture(autouse=True)
def bounded() -> Iterator[None]:
    """No test of this file may hang."""

    def late(_: int, __: object) -> None:
        raise AssertionError("the test hangs")

    before = signal.signal(signal.SIGALRM, late)
    signal.alarm(40)
    yield
    signal.alarm(0)
    signal.signal(signal.SIGALRM, before)


def send_all(kind: str, share: Share) -> dict[str, Any]:
    """Send a share to a receiver of its own, on a real loop, until it is settled."""
    loop = asyncio.new_event_loop()
    receiver = Receiver(loop, kind, share.port)
    flood = Flood(loop, kind, share, loop.stop)
    try:
        receiver.start()
        loop.call_soon(flood.start)
        loop.run_forever()
        assert flood.settled
        return flood.outcome()
    finally:
        flood.close()
        receiver.close()
        loop.close()


def all_sent(connections: int) -> dict[str, Any]:
    return {
        "attempted": connections,
        "held": connections,
        "failed": 0,
        "lost": 0,
        "pending": 0,
        "errors": {},
        "runs": [],
        "stalled": {"examined": 0, "syn_retransmitted": 0, "syns": 0},
        "held_resent": 0,
    }


# -- what is sent where -----------------------------------------------------------------------------------------------


def address_of(index: int) -> str:
    return str(ipaddress.IPv4Address(senders.addresses(index, 1)))


@pytest.mark.parametrize(
    ("connections", "processes", "rate", "senders"),
    [
        (10, 3, 0, 3),
        (2, 4, 0, 2),
        (10, 4, 2, 2),
        (10, 3, 1000, 3),
        (20000, 2, 5001, 2),
        (1, 1, 0, 1),
        (ADDRESSES, 2, 0, 2),
    ],
)
def test_shares_add_up_and_do_not_overlap(connections: int, processes: int, rate: int, senders: int) -> None:
    plan = shares(UDP, connections, processes, PORT, rate)
    assert len(plan) == senders
    assert sum(share.connections for share in plan) == connections
    assert sum(share.rate_per_second for share in plan) == rate
    assert all(bool(share.rate_per_second) == bool(rate) for share in plan)
    assert [share.port for share in plan] == list(range(PORT, PORT + senders))
    following = 0
    for share in plan:
        assert share.first_address_index == following
        following += share.connections
    assert max(share.connections for share in plan) - min(share.connections for share in plan) <= 1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((UDP, 0, 1, PORT, 0), "0 connections"),
        ((UDP, ADDRESSES + 1, 1, PORT, 0), "can be sent"),
        ((UDP, 10, 0, PORT, 0), "0 processes"),
        ((UDP, 10, 1, PORT, -1), "-1 per second"),
        ((UDP, 10, 2, 65535, 0), "no 2 ports from 65535"),
        (("icmp", 10, 1, PORT, 0), "icmp is no kind of flood: half-open or udp"),
    ],
)
def test_what_cannot_be_shared(arguments: tuple[str, int, int, int, int], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        shares(*arguments)


# -- how it is sent ---------------------------------------------------------------------------------------------------


class ScriptedLoop:
    """A loop whose clock jumps to the next callback."""

    def __init__(self) -> None:
        self.now = 100.0
        self._calls: list[tuple[float, int, Callable[[], None]]] = []
        self._order = count()

    def time(self) -> float:
        return self.now

    def call_soon(self, callback: Callable[[], None]) -> None:
        self.call_later(0.0, callback)

    def call_later(self, seconds: float, callback: Callable[[], None]) -> None:
        heapq.heappush(self._calls, (self.now + seconds, next(self._order), callback))

    def turn(self) -> bool:
        """Run one callback; False when there is none."""
        if not self._calls:
            return False
        due, _, callback = heapq.heappop(self._calls)
        self.now = max(self.now, due)
        callback()
        return True


class ScriptedSender:
    """Takes what it is given; the errno of each try is what the script says."""

    def __init__(self, code_of_try: Callable[[int], int] = lambda _: 0) -> None:
        self.sent: list[int] = []
        self.tries = 0
        self._code_of_try = code_of_try

    def send(self, first: int, count: int) -> tuple[int, int]:
        for done in range(count):
            self.tries += 1
            code = self._code_of_try(self.tries)
            if code:
                return done, code
            self.sent.append(first + done)
        return count, 0

    def close(self) -> None:
        pass


@pytest.fixture
def scripted(monkeypatch: pytest.MonkeyPatch) -> Callable[..., tuple[Any, ScriptedLoop, list[int]]]:
    """Makes a flood over a scripted sender: the flood, its loop, and a list that grows when it is settled."""

    def make(share: Share, sender: ScriptedSender) -> tuple[Any, ScriptedLoop, list[int]]:
        monkeypatch.setitem(flood_module._SENDERS, UDP, lambda _: sender)
        loop = ScriptedLoop()
        settled: list[int] = []
        flood = Flood(loop, UDP, share, lambda: settled.append(1))  # type: ignore[arg-type]
        return flood, loop, settled

    return make


def test_a_rate_is_kept(scripted: Callable[..., tuple[Any, ScriptedLoop, list[int]]]) -> None:
    flood, loop, settled = scripted(Share(7, 300, PORT, 100), sender := ScriptedSender())
    began = loop.now
    flood.start()
    assert len(sender.sent) == 1
    while loop.turn():
        due = (loop.now - began) * 100 + 1
        assert due - 2 < len(sender.sent) < due + 0.01
    assert sender.sent == list(range(7, 307))
    assert settled == [1]


def test_no_room_does_not_slow_the_rate(scripted: Callable[..., tuple[Any, ScriptedLoop, list[int]]]) -> None:
    sender = ScriptedSender(lambda tried: errno.ENOBUFS if tried % 4 == 0 else 0)
    flood, loop, settled = scripted(Share(0, 300, PORT, 1000), sender)
    flood.start()
    while loop.turn():
        assert len(sender.sent) < (loop.now - 100.0) * 1000 + 1.01
    assert (len(sender.sent), settled) == (300, [1])
    assert loop.now < 100.4


def test_a_batch_is_all_that_is_sent_at_once(
    scripted: Callable[..., tuple[Any, ScriptedLoop, list[int]]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(flood_module, "_BATCH", 16)
    flood, loop, _ = scripted(Share(0, 100, PORT, 100), sender := ScriptedSender())
    flood.start()
    loop.now += 0.5  # a machine whose host did not let it run
    sizes = []
    while loop.turn():
        sizes.append(len(sender.sent))
    assert max(after - before for before, after in pairwise(sizes)) <= 16
    assert len(sender.sent) == 100


def test_without_a_rate_no_time_passes(scripted: Callable[..., tuple[Any, ScriptedLoop, list[int]]]) -> None:
    flood, loop, settled = scripted(Share(0, 2000, PORT, 0), sender := ScriptedSender())
    flood.start()
    assert 0 < len(sender.sent) < 2000  # the loop gets its turn
    while loop.turn():
        pass
    assert (len(sender.sent), loop.now, settled) == (2000, 100.0, [1])


@pytest.mark.parametrize("code", [errno.ENOBUFS, errno.EAGAIN])
def test_no_room_is_no_answer(scripted: Callable[..., tuple[Any, ScriptedLoop, list[int]]], code: int) -> None:
    """Every third try finds no room: what it was for is sent later, in its place."""
    sender = ScriptedSender(lambda tried: code if tried % 3 == 0 else 0)
    flood, loop, settled = scripted(Share(5, 50, PORT, 0), sender)
    flood.start()
    while loop.turn():
        pass
    assert sender.sent == list(range(5, 55))
    assert flood.outcome() == all_sent(50)
    assert settled == [1]
    assert loop.now > 100.0


def test_what_is_refused_is_counted_and_not_sent_again(
    scripted: Callable[..., tuple[Any, ScriptedLoop, list[int]]],
) -> None:
    codes = {2: errno.EPERM, 3: errno.EPERM, 5: errno.EINVAL, 6: 9999}
    sender = ScriptedSender(lambda tried: codes.get(tried, 0))
    flood, loop, settled = scripted(Share(0, 6, PORT, 0), sender)
    flood.start()
    assert sender.sent == [0, 3]
    assert flood.progress() == {
        "attempted": 6,
        "held": 2,
        "failed": 4,
        "lost": 0,
        "pending": 0,
        "errors": {"EPERM": 2, "EINVAL": 1, "errno 9999": 1},
    }
    assert flood.settled
    assert settled == [1]
    assert not loop.turn()


@pytest.mark.parametrize("end", ["outcome", "close"])
def test_nothing_is_sent_after_the_end(scripted: Callable[..., tuple[Any, ScriptedLoop, list[int]]], end: str) -> None:
    flood, loop, settled = scripted(Share(0, 2000, PORT, 0), sender := ScriptedSender())
    flood.start()
    before = len(sender.sent)
    getattr(flood, end)()
    flood.tick()
    while loop.turn():
        pass
    assert (len(sender.sent), settled, flood.settled) == (before, [], False)


# -- packets ----------------------------------------------------------------------------------------------------------


def test_datagrams_over_real_loopback() -> None:
    assert send_all(UDP, Share(0, 700, free_row(), 0)) == all_sent(700)


@pytest.mark.parametrize("kind", KINDS)
def test_a_port_in_use_is_named(kind: str) -> None:
    port = free_row()
    loop = asyncio.new_event_loop()
    first = Receiver(loop, kind, port)
    try:
        with pytest.raises(OSError, match=rf"cannot receive on 0\.0\.0\.0:{port} \({kind}\): Address already in use"):
            Receiver(loop, kind, port)
    finally:
        first.close()
        loop.close()


def test_half_open_without_the_privilege() -> None:
    def body() -> str:
        os.setuid(65534)
        with pytest.raises(PermissionError) as raised:
            Flood(asyncio.new_event_loop(), HALF_OPEN, Share(0, 1, PORT, 0), lambda: None)
        return str(raised.value)

    assert "no raw socket to send SYNs from: Operation not permitted" in in_namespace(body)


@pytest.mark.parametrize("kind", KINDS)
def test_every_packet_arrives_and_none_is_answered(kind: str) -> None:
    """The kernel checks the SYNs' checksums too: one that was wrong would be counted as that."""
    first, connections = 254 * 256 - 300, 700

    def body() -> dict[str, Any]:
        outcome = send_all(kind, Share(first, connections, PORT, 0))
        return {"outcome": outcome, "tcp": counters("Tcp"), "udp": counters("Udp"), "icmp": counters("Icmp")}

    seen = in_namespace(body)
    assert seen["outcome"] == all_sent(connections)
    assert seen["icmp"]["OutMsgs"] == 0
    tcp, udp = seen["tcp"], seen["udp"]
    if kind == HALF_OPEN:
        assert (tcp["InSegs"], tcp["InErrs"], tcp["OutSegs"], tcp["OutRsts"]) == (connections, 0, 0, 0)
    else:
        assert (udp["OutDatagrams"], udp["NoPorts"], udp["InDatagrams"]) == (connections, 0, 0)
        assert udp["InErrors"] == connections  # what the filter took none of


def test_without_a_receiver_there_would_be_answers() -> None:
    """That the counters of the test above can show something else."""

    def body() -> list[int]:
        loop = asyncio.new_event_loop()
        for kind in KINDS:
            flood = Flood(loop, kind, Share(0, 5, PORT, 0), lambda: None)
            flood.start()
            flood.close()
        return [counters("Tcp")["OutRsts"], counters("Icmp")["OutMsgs"]]

    assert in_namespace(body) == [5, 5]


@pytest.mark.parametrize("kind", KINDS)
def test_every_packet_is_an_entry_without_a_reply(kind: str) -> None:
    def body() -> list[str]:
        track()
        for share in shares(kind, 601, 2, PORT, 0):
            send_all(kind, share)
        return entries()

    lines = in_namespace(body)
    assert len(lines) == 601
    state = " SYN_SENT " if kind == HALF_OPEN else " udp "
    assert all("[UNREPLIED]" in line and state in line for line in lines)
    destinations = {field for line in lines for field in line.split()[:9] if field.startswith("dst=")}
    assert destinations == {f"dst={address_of(index)}" for index in range(601)}


@pytest.mark.parametrize("kind", KINDS)
def test_what_netfilter_refuses_is_an_error(kind: str) -> None:
    """A rule stands in for the full table, which comes to the same NF_DROP: the max of a table is the whole host's."""

    def body() -> dict[str, Any]:
        first_that_works(
            ["nft", "table ip t { chain c { type filter hook output priority 0; ip daddr 127.1.1.0/24 drop; }; }"],
            ["iptables-legacy", "--append", "OUTPUT", "--destination", "127.1.1.0/24", "--jump", "DROP"],
        )
        return send_all(kind, Share(0, 3 * 254, PORT, 0))

    outcome = in_namespace(body)
    assert (outcome["attempted"], outcome["held"], outcome["failed"]) == (762, 508, 254)
    assert outcome["errors"] == {"EPERM": 254}
