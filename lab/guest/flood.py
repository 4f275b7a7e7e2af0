"""Loads that leave entries without a reply in the table: one packet for each entry, to an address of its own.

All of 127.0.0.0/8 is local on the loopback interface, so that one socket that sends and one that swallows make as many
entries as there are addresses, without a descriptor for any of them. What is sent arrives, and is not answered in any
way: a receiver has a filter that takes nothing (SO_ATTACH_FILTER, socket(7)), which the kernel asks before TCP or UDP
looks at the packet (tcp_filter() in net/ipv4/tcp_ipv4.c, udp_queue_rcv_one_skb() in net/ipv4/udp.c). A port that nobody
has bound would answer with a reset or an ICMP error instead.
"""

import asyncio
import errno
import socket
from typing import Any, Callable, Dict, List, NamedTuple, Optional, Union

from lab.guest.filters import attach_empty_filter
from lab.guest.pace import Pace
from lab.guest.packets import HALF_OPEN, SOURCE_PORTS, UDP, PortSender, Route
from lab.guest.senders import ADDRESSES, DatagramSender, SynSender

_LAST_PORT = 65535
_BATCH = 512  # packets between two looks at the loop
_NO_ROOM_SECONDS = 0.002  # before a packet that found no room is sent again
_NO_ROOM = (errno.EAGAIN, errno.EWOULDBLOCK, errno.ENOBUFS)
_SOCKET_TYPES = {HALF_OPEN: socket.SOCK_STREAM, UDP: socket.SOCK_DGRAM}


class Share(NamedTuple):
    """What one sending process sends, and where its receiver listens."""

    first_address_index: int
    connections: int
    port: int
    rate_per_second: int  # 0: as fast as it goes
    route: Optional[Route] = None  # None: to many addresses of loopback; else from many ports to one address


def shares(
    kind: str,
    connections: int,
    processes: int,
    first_port: int,
    rate_per_second: int,
    route: Optional[Route] = None,
) -> List[Share]:
    """Split entries and rate over senders, each with a port of its own: at most `processes`, or as many as are needed
    for a source port each.

    A rate of 0 is no limit. Raises ValueError when there is nothing to send, or no address or port for it.
    """
    _check(kind, connections, processes, rate_per_second)
    senders = min(processes, connections, rate_per_second or processes)
    if route is not None:
        senders = max(senders, -(-connections // SOURCE_PORTS))
    if first_port < 1 or first_port + senders - 1 > _LAST_PORT:
        raise ValueError("there are no {} ports from {} on".format(senders, first_port))
    plan: List[Share] = []
    index = 0
    for number in range(senders):
        count = _part(connections, senders, number)
        plan.append(Share(index, count, first_port + number, _part(rate_per_second, senders, number), route))
        index += count
    return plan


class Flood:
    """Sends the packets of a share, each once; `on_settled` is called when the last one was sent or refused.

    Has the methods of Client: `held` counts what was sent without an error, `failed` what the kernel refused. A full
    table refuses with EPERM (nf_hook_slow() in net/netfilter/core.c), to a raw socket too (raw_send_hdrinc() in
    net/ipv4/raw.c).
    """

    def __init__(
        self, loop: asyncio.AbstractEventLoop, kind: str, share: Share, on_settled: Callable[[], None]
    ) -> None:
        """Open the sending socket; raises OSError: half-open needs CAP_NET_RAW."""
        self._loop = loop
        self._share = share
        self._on_settled = on_settled
        self.attempted = 0
        self.held = 0
        self.failed = 0
        self.errors: Dict[str, int] = {}
        self._pace = Pace(share.rate_per_second, _BATCH)
        self._due = 0  # packets that may be sent now
        self._finished = False
        self._sender = _sender(kind, share)

    @property
    def settled(self) -> bool:
        """True when every packet was sent or refused."""
        return self.attempted == self._share.connections

    def start(self) -> None:
        """Begin; returns at once."""
        self._send_batch()

    def tick(self) -> None:
        """Nothing to do: no packet waits for an answer."""

    def progress(self) -> Dict[str, Any]:
        """Counts so far."""
        return {
            "attempted": self.attempted,
            "held": self.held,
            "failed": self.failed,
            "lost": 0,
            "pending": 0,
            "errors": dict(self.errors),
        }

    def outcome(self) -> Dict[str, Any]:
        """The end's counts, with the keys of Client's. Nothing more is sent after this."""
        self._finished = True
        return dict(self.progress(), runs=[], stalled={"examined": 0, "syn_retransmitted": 0, "syns": 0}, held_resent=0)

    def close(self) -> None:
        """Stop, and close the socket; the entries stay until they time out."""
        self._finished = True
        self._sender.close()

    def _send_batch(self) -> None:
        if self._finished:
            return
        room = self._share.connections - self.attempted - self._due
        self._due += self._pace.take(self._loop.time(), room)
        wanted = min(_BATCH, self._due)
        sent = self._send(wanted)
        self._due -= sent
        if self.settled:
            self._on_settled()
        elif sent < wanted:
            self._loop.call_later(_NO_ROOM_SECONDS, self._send_batch)
        else:
            self._loop.call_later(self._pace.turn_seconds, self._send_batch)

    def _send(self, count: int) -> int:
        """Send so many packets; returns how many were sent or refused before the kernel had no room for one."""
        done = 0
        while done < count:
            sent, code = self._sender.send(self._share.first_address_index + self.attempted, count - done)
            self.attempted += sent
            self.held += sent
            done += sent
            if code in _NO_ROOM:
                break
            if code:
                self._refuse(code)
                done += 1
        return done

    def _refuse(self, code: int) -> None:
        self.attempted += 1
        self.failed += 1
        name = errno.errorcode.get(code, "errno {}".format(code))
        self.errors[name] = self.errors.get(name, 0) + 1


class Receiver:
    """Bound to every address, so that what is sent has somewhere to go; takes nothing and answers nothing."""

    def __init__(self, loop: asyncio.AbstractEventLoop, kind: str, port: int) -> None:
        """Bind the port; raises OSError, with the address in its text."""
        self._socket = _deaf_socket(kind, port)

    def start(self) -> None:
        """Nothing to do: nothing ever gets here."""

    def close(self) -> None:
        """Free the port."""
        self._socket.close()


Sender = Union[SynSender, DatagramSender, PortSender]
_SENDERS: Dict[str, Callable[[int], Union[SynSender, DatagramSender]]] = {HALF_OPEN: SynSender, UDP: DatagramSender}


def _sender(kind: str, share: Share) -> Sender:
    return _SENDERS[kind](share.port) if share.route is None else PortSender(kind, share.port, share.route)


def _deaf_socket(kind: str, port: int) -> socket.socket:
    """A socket bound to a port of every address, whose filter takes nothing."""
    sock = socket.socket(socket.AF_INET, _SOCKET_TYPES[kind])
    try:
        if kind == HALF_OPEN:  # what earlier connections left in TIME_WAIT; of UDP it would share the port
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        attach_empty_filter(sock)
        sock.bind(("0.0.0.0", port))
        if kind == HALF_OPEN:
            sock.listen(1)
    except OSError as error:
        sock.close()
        raise OSError(error.errno, "cannot receive on 0.0.0.0:{} ({}): {}".format(port, kind, error.strerror))
    return sock


def _check(kind: str, connections: int, processes: int, rate_per_second: int) -> None:
    if kind not in _SENDERS:
        raise ValueError("{} is no kind of flood: {}".format(kind, " or ".join(sorted(_SENDERS))))
    if not 1 <= connections <= ADDRESSES:
        raise ValueError("{} connections: 1 to {} can be sent".format(connections, ADDRESSES))
    if processes < 1 or rate_per_second < 0:
        raise ValueError("{} processes at {} per second send nothing".format(processes, rate_per_second))


def _part(total: int, parts: int, number: int) -> int:
    """The size of one of the parts of `total`, which differ by at most one."""
    return total // parts + (number < total % parts)
