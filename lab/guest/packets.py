"""Packets that leave entries without a reply, from one address to another: each from a source port of its own.

They come from a raw socket, so that no descriptor is needed for any of them, and go to a port whose socket has a filter
that takes nothing: they arrive and are not answered in any way. The kernel counts what a filter refuses (sk_drops, by
udp_queue_rcv_one_skb() in net/ipv4/udp.c and tcp_v4_rcv() in net/ipv4/tcp_ipv4.c), so it is known how many arrived.
"""

import errno
import socket
import struct
import sys
from typing import NamedTuple, Tuple

from lab.guest.filters import attach_empty_filter
from lab.guest.paths import IPV4

HALF_OPEN = "half-open"
UDP = "udp"

FIRST_SOURCE_PORT = 1100
SOURCE_PORTS = 60_000  # of one sender

_SOCKETS = {HALF_OPEN: (socket.IPPROTO_TCP, socket.SOCK_STREAM), UDP: (socket.IPPROTO_UDP, socket.SOCK_DGRAM)}
# RFC 9293: ports, sequence, acknowledgment, length of the header, flags, window, checksum, urgent; RFC 768
_TCP, _UDP = struct.Struct("!HHIIBBHHH"), struct.Struct("!HHHH")
_SYN_FLAG, _WINDOW = 0x02, 64240
_IPV6_CHECKSUM = 7  # linux/in6.h: the kernel writes the checksum at this offset (ipv6(7))
_IPV6_TRANSPARENT = 75  # linux/in6.h: a source of a prefix that is local as a whole
_CHECKSUM_AT = {HALF_OPEN: 16, UDP: 6}
_SO_MEMINFO, _MEMINFO_BYTES = 55, 36  # asm-generic/socket.h, linux/sock_diag.h; since 4.12
_MEMINFO_DROPS = slice(32, 36)


class Route(NamedTuple):
    """From where to where."""

    family: str
    source: str
    destination: str


class PortSender:
    """Sends SYNs or empty datagrams, of which only the source port and the checksum change."""

    def __init__(self, kind: str, port: int, route: Route) -> None:
        """Raises OSError: a raw socket needs CAP_NET_RAW."""
        self._kind, self._port, self._route = kind, port, route
        protocol, _ = _SOCKETS[kind]
        self._is_ipv4 = route.family == IPV4
        family = socket.AF_INET if self._is_ipv4 else socket.AF_INET6
        try:
            self._socket = socket.socket(family, socket.SOCK_RAW, protocol)
        except OSError as error:
            raise OSError(error.errno, "no raw socket to send from: {}".format(error.strerror))
        attach_empty_filter(self._socket)  # it would get a copy of whatever arrives
        self._socket.setblocking(False)
        if not self._is_ipv4:
            self._socket.setsockopt(socket.IPPROTO_IPV6, _IPV6_CHECKSUM, _CHECKSUM_AT[kind])
            self._socket.setsockopt(socket.IPPROTO_IPV6, _IPV6_TRANSPARENT, 1)
        self._socket.bind((route.source, 0))

    def send(self, first: int, count: int) -> Tuple[int, int]:
        """Send the packets of entries from `first`: how many were sent, and the errno of the next one, else 0."""
        destination = (self._route.destination, 0)
        for done in range(count):
            try:
                self._socket.sendto(self._packet(FIRST_SOURCE_PORT + (first + done) % SOURCE_PORTS), destination)
            except OSError as error:
                return done, error.errno or errno.EIO
        return count, 0

    def close(self) -> None:
        """Close the socket."""
        self._socket.close()

    def _packet(self, source_port: int) -> bytes:
        if self._kind == UDP:
            return _UDP.pack(source_port, self._port, _UDP.size, 0)  # over IPv4 it needs no checksum
        header = (source_port, self._port, 1, 0, _TCP.size // 4 << 4, _SYN_FLAG, _WINDOW)
        return _TCP.pack(*header, self._checksum(header) if self._is_ipv4 else 0, 0)

    def _checksum(self, header: Tuple[int, ...]) -> int:
        """The Internet checksum (RFC 1071) of the header and of the pseudo header before it."""
        addresses = (socket.inet_aton(address) for address in (self._route.source, self._route.destination))
        data = b"".join(addresses) + struct.pack("!HH", socket.IPPROTO_TCP, _TCP.size) + _TCP.pack(*header, 0, 0)
        total = sum(word for (word,) in struct.iter_unpack("!H", data))
        while total > 0xFFFF:
            total = (total & 0xFFFF) + (total >> 16)
        return int(total) ^ 0xFFFF


class CountingReceiver:
    """Takes nothing and answers nothing, and knows how many packets came."""

    def __init__(self, kind: str, address: str, port: int) -> None:
        """Bind the port; raises OSError, with the address in its text, also where the kernel does not count."""
        _, type_ = _SOCKETS[kind]
        self._socket = socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET, type_)
        try:
            if kind == HALF_OPEN:  # what earlier connections left in TIME_WAIT; of UDP it would share the port
                self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            attach_empty_filter(self._socket)
            self._socket.bind((address, port))
            if kind == HALF_OPEN:
                self._socket.listen(1)
            self.count()
        except OSError as error:
            self._socket.close()
            why = "the kernel does not count what arrives" if error.errno == errno.ENOPROTOOPT else error.strerror
            raise OSError(error.errno, "cannot receive on {}:{} ({}): {}".format(address, port, kind, why))

    def count(self) -> int:
        """How many packets have come."""
        info = self._socket.getsockopt(socket.SOL_SOCKET, _SO_MEMINFO, _MEMINFO_BYTES)
        return int.from_bytes(info[_MEMINFO_DROPS], sys.byteorder)

    def close(self) -> None:
        """Free the port."""
        self._socket.close()
