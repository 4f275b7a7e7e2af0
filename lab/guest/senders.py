"""What leaves entries without a reply over loopback: packets from one socket, to an address of 127.0.0.0/8 each."""

import socket
import struct
import sys
from array import array
from typing import Iterator, Tuple

from lab.guest.messages import Messages
from lab.guest.sources import FLOOD

# The last octet leaves out 0 and 255, the second one 0: there is 127.0.0.1, and what else a machine uses of 127.0.0.x
_LAST_OCTETS, _THIRD_OCTETS, _SECOND_OCTETS = 254, 256, 254
ADDRESSES = _LAST_OCTETS * _THIRD_OCTETS * _SECOND_OCTETS
_MOST = 512  # packets that are sent at once

# RFC 791: version and length of the header, TOS, total length, id, flags, TTL, protocol, checksum (the kernel's part),
# source, destination; RFC 9293: ports, sequence, acknowledgment, length of the header, flags, window, checksum, urgent
_SYN = struct.Struct("!BBHHHBBH4s4sHHIIBBHHH")
_IP_BYTES, _TCP_BYTES = 20, 20
_DESTINATION, _CHECKSUM = 8, 18  # of the words of 16 bits
_DONT_FRAGMENT, _TTL, _WINDOW, _SYN_FLAG = 0x4000, 64, 64240, 0x02


def addresses(first: int, count: int) -> bytes:
    """The addresses of entries from number `first`, four bytes each: 127.1.0.1, 127.1.0.2 and so on; raises ValueError
    past the last one.
    """
    found = b""
    for second, third, last in _runs(first, count):
        part = bytearray(bytes((127, second, third, 0)) * len(last))
        part[3::4] = bytes(last)
        found += part
    return found


def _runs(first: int, count: int) -> Iterator[Tuple[int, int, range]]:
    """The same by octets: the second, the third, and a run of the last one."""
    if first < 0 or first + count > ADDRESSES:
        raise ValueError("there is no address number {}: 127.0.0.0/8 gives {}".format(first + count - 1, ADDRESSES))
    while count:
        rest, last = divmod(first, _LAST_OCTETS)
        second, third = divmod(rest, _THIRD_OCTETS)
        run = min(count, _LAST_OCTETS - last)
        yield second + 1, third, range(last + 1, last + 1 + run)
        first, count = first + run, count - run


class _Sender:
    """Packets to one address of loopback after the other, as many at once as the kernel takes."""

    def __init__(self, sock: socket.socket, port: int, packet: bytes) -> None:
        self._socket = sock
        self._socket.setblocking(False)
        self._messages = Messages(sock, port, packet, _MOST)
        self._written = range(0)  # the entries whose messages are there

    def send(self, first: int, count: int) -> Tuple[int, int]:
        """Send the packets of entries from `first`: how many were sent, and the errno of the next one, else 0."""
        if first not in self._written:
            self._written = range(first, first + min(count, _MOST))
            self._write(first, len(self._written))
        return self._messages.send(first - self._written.start, min(count, self._written.stop - first))

    def close(self) -> None:
        """Close the socket."""
        self._socket.close()

    def _write(self, first: int, count: int) -> bytes:
        """Write the messages of entries from `first`; their destinations."""
        destinations = addresses(first, count)
        self._messages.address(destinations)
        return destinations


class DatagramSender(_Sender):
    """Empty datagrams, from one socket that is not connected."""

    def __init__(self, port: int) -> None:
        """To this port. Raises OSError."""
        sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        sock.bind((FLOOD, 0))
        super().__init__(sock, port, b"")


class SynSender(_Sender):
    """SYNs, from one raw socket: one packet, in which only the destination and the checksum change."""

    def __init__(self, port: int) -> None:
        """To this port. Raises OSError: a raw socket needs CAP_NET_RAW."""
        try:
            # IPPROTO_RAW implies IP_HDRINCL, and receives nothing (raw(7))
            sock = socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_RAW)
        except OSError as error:
            raise OSError(error.errno, "no raw socket to send SYNs from: {}".format(error.strerror))
        # bound and never used: the kernel gives its port to no other socket, so these are nobody's connections
        self._reserved = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        self._reserved.bind((FLOOD, 0))
        packet = bytearray(_SYN.size)
        self._sum = _put_syn(packet, self._reserved.getsockname()[1], port)
        super().__init__(sock, 0, bytes(packet))

    def close(self) -> None:
        """Close the sockets."""
        super().close()
        self._reserved.close()

    def _write(self, first: int, count: int) -> bytes:
        destinations = super()._write(first, count)
        halves = array("H", destinations)
        self._messages.put(_DESTINATION, halves[::2])
        self._messages.put(_DESTINATION + 1, halves[1::2])
        self._messages.put(_CHECKSUM, checksums(self._sum, first, count))
        return destinations


def _put_syn(packet: bytearray, source_port: int, port: int) -> int:
    """Write a SYN without destination and checksum; returns the sum that the checksum is made of, so far."""
    source = socket.inet_aton(FLOOD)
    ip = (_IP_BYTES // 4 + 0x40, 0, _SYN.size, 1, _DONT_FRAGMENT, _TTL, socket.IPPROTO_TCP, 0, source, bytes(4))
    tcp = (source_port, port, 1, 0, _TCP_BYTES // 4 << 4, _SYN_FLAG, _WINDOW, 0, 0)
    _SYN.pack_into(packet, 0, *(ip + tcp))
    pseudo_header = struct.pack("!4sHH", source, socket.IPPROTO_TCP, _TCP_BYTES)
    return sum(word for (word,) in struct.iter_unpack("!H", pseudo_header + packet[_IP_BYTES:]))


def checksums(total: int, first: int, count: int) -> "array[int]":
    """The Internet checksum (RFC 1071) of packets to the addresses of entries from `first`, where `total` is the sum of
    all other words; as they lie in memory.
    """
    found = array("H")
    for second, third, last in _runs(first, count):
        # in ones' complement a sum is its remainder by 65535, and 65535 where that is 0
        start = 0xFFFF - ((total + (127 << 8 | second) + (third << 8 | last[0])) % 0xFFFF or 0xFFFF)
        # a sum that is one more has a checksum that is one less, and after 0 comes 65534
        before_zero = range(start, max(-1, start - len(last)), -1)
        found.extend(before_zero)
        found.extend(range(0xFFFE, 0xFFFE - (len(last) - len(before_zero)), -1))
    if sys.byteorder == "little":
        found.byteswap()
    return found
