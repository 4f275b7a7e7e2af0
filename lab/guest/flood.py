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
import struct
from typing import Any, Callable, Dict, List, NamedTuple, Optional, Union

from lab.guest.filters import attach_empty_filter
from lab.guest.pace import Pace
from lab.guest.packets import HALF_OPEN, SOURCE_PORTS, UDP, PortSender, Route
from lab.guest.sources import FLOOD

# The last octet leaves out 0 and 255, the second one 0: there is 127.0.0.1, and what else a machine uses of 127.0.0.x
_LAST_OCTETS, _THIRD_OCTETS, _SECOND_OCTETS = 254, 256, 254
ADDRESSES = _LAST_OCTETS * _THIRD_OCTETS * _SECOND_OCTETS
_LAST_PORT = 65535
_BATCH = 512  # packets between two looks at the loop
_NO_ROOM_SECONDS = 0.002  # before a packet that found no room is sent again
_NO_ROOM = (errno.EAGAIN, errno.EWOULDBLOCK, errno.ENOBUFS)
_SOCKET_TYPES = {HALF_OPEN: socket.SOCK_STREAM, UDP: socket.SOCK_DGRAM}

# RFC 791: version and length of the header, TOS, total length, id, flags, TTL, protocol, checksum (the kernel's part),
# source, destination; RFC 9293: ports, sequence, acknowledgment, length of the header, flags, window, checksum, urgent
_SYN = struct.Struct("!BBHHHBBH4s4sHHIIBBHHH")
_IP_BYTES, _TCP_BYTES = 20, 20
_DESTINATION, _CHECKSUM = slice(16, 20), slice(36, 38)
_DONT_FRAGMENT, _TTL, _WINDOW, _SYN_FLAG = 0x4000, 64, 64240, 0x02
_TWO_WORDS = struct.Struct("!HH")


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


def address_of(index: int) -> str:
    """The address of an entry: 127.1.0.1, 127.1.0.2 and so on; raises ValueError past the last one."""
    if not 0 <= index < ADDRESSES:
        raise ValueError("there is no address number {}: 127.0.0.0/8 gives {}".format(index, ADDRESSES))
    rest, last = divmod(index, _LAST_OCTETS)
    second, third = divmod(rest, _THIRD_OCTETS)
    return "127.{}.{}.{}".format(second + 1, third, last + 1)


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
        send = self._sender.send
        first = self._share.first_address_index + self.attempted
        for done in range(count):
            code = send(first + done)
            if code in _NO_ROOM:
                return done
            self._note(code)
        return count

    def _note(self, code: int) -> None:
        self.attempted += 1
        if code == 0:
            self.held += 1
            return
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


class _DatagramSender:
    """Empty datagrams, from one socket that is not connected."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._socket.setblocking(False)
        self._socket.bind((FLOOD, 0))

    def send(self, index: int) -> int:
        """Send the packet of one entry; returns the errno, 0 when it was sent."""
        return _send_to(self._socket, b"", address_of(index), self._port)

    def close(self) -> None:
        self._socket.close()


class _SynSender:
    """SYNs, from one raw socket: one packet, in which only the destination and the checksum change."""

    def __init__(self, port: int) -> None:
        try:
            # IPPROTO_RAW implies IP_HDRINCL, and receives nothing (raw(7))
            self._socket = socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_RAW)
        except OSError as error:
            raise OSError(error.errno, "no raw socket to send SYNs from: {}".format(error.strerror))
        self._socket.setblocking(False)
        # bound and never used: the kernel gives its port to no other socket, so these are nobody's connections
        self._reserved = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        self._reserved.bind((FLOOD, 0))
        self._packet = bytearray(_SYN.size)
        self._sum = _put_syn(self._packet, self._reserved.getsockname()[1], port)

    def send(self, index: int) -> int:
        """Send the packet of one entry; returns the errno, 0 when it was sent."""
        address = address_of(index)
        destination = socket.inet_aton(address)
        self._packet[_DESTINATION] = destination
        self._packet[_CHECKSUM] = _complement(self._sum + sum(_TWO_WORDS.unpack(destination)))
        return _send_to(self._socket, self._packet, address, 0)

    def close(self) -> None:
        self._socket.close()
        self._reserved.close()


Sender = Union[_SynSender, _DatagramSender, PortSender]
_SENDERS: Dict[str, Callable[[int], Union[_SynSender, _DatagramSender]]] = {HALF_OPEN: _SynSender, UDP: _DatagramSender}


def _sender(kind: str, share: Share) -> Sender:
    return _SENDERS[kind](share.port) if share.route is None else PortSender(kind, share.port, share.route)


def _put_syn(packet: bytearray, source_port: int, port: int) -> int:
    """Write a SYN without destination and checksum; returns the sum that the checksum is made of, so far."""
    source = socket.inet_aton(FLOOD)
    ip = (_IP_BYTES // 4 + 0x40, 0, _SYN.size, 1, _DONT_FRAGMENT, _TTL, socket.IPPROTO_TCP, 0, source, bytes(4))
    tcp = (source_port, port, 1, 0, _TCP_BYTES // 4 << 4, _SYN_FLAG, _WINDOW, 0, 0)
    _SYN.pack_into(packet, 0, *(ip + tcp))
    pseudo_header = struct.pack("!4sHH", source, socket.IPPROTO_TCP, _TCP_BYTES)
    return sum(word for (word,) in struct.iter_unpack("!H", pseudo_header + packet[_IP_BYTES:]))


def _complement(total: int) -> bytes:
    """The Internet checksum (RFC 1071) of 16-bit words whose sum is given."""
    while total > 0xFFFF:
        total = (total & 0xFFFF) + (total >> 16)
    return struct.pack("!H", total ^ 0xFFFF)


def _send_to(sock: socket.socket, packet: Union[bytes, bytearray], address: str, port: int) -> int:
    try:
        sock.sendto(packet, (address, port))
    except OSError as error:
        return error.errno or errno.EIO
    return 0


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
