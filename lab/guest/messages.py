"""Packets that one sendmmsg(2) sends, each to an IPv4 address of its own; written anew a column at a time."""

import ctypes
import errno
import socket
import struct
from array import array
from typing import Tuple

# struct mmsghdr where a pointer has 8 bytes: name, its length, pieces, how many, control, its length, flags, bytes sent
_HEADER, _HEADER_BYTES = (0, 16, 0, 1, 0, 0, 0, 0), 64
_NAME_BYTES = 16  # struct sockaddr_in, of which the second word has the address
_PIECE_BYTES = 16  # struct iovec: where it begins, and its length


class Messages:
    """Copies of a packet, each with what differs in it, to one port of many addresses."""

    def __init__(self, sock: socket.socket, port: int, packet: bytes, most: int) -> None:
        """Room for `most`; an empty packet is a datagram without content."""
        self._socket = sock
        name = array("H", [socket.AF_INET]).tobytes() + struct.pack("!H", port) + bytes(12)
        self._names = array("B", name * most)
        self._packets = array("B", packet * most)
        self._pieces = array("Q", [0, len(packet)] * most)
        self._headers = array("Q", _HEADER * most)
        memoryview(self._pieces)[::2] = _places(self._packets, len(packet), most)
        memoryview(self._headers)[::8] = _places(self._names, _NAME_BYTES, most)
        memoryview(self._headers)[2::8] = _places(self._pieces, _PIECE_BYTES, most)
        self._packet_shorts = len(packet) // 2

    def address(self, addresses: bytes) -> None:
        """Where the messages go, from the first on: four bytes for each."""
        words = array("I", addresses)
        memoryview(self._names).cast("I")[1 : 4 * len(words) : 4] = words

    def put(self, place: int, values: "array[int]") -> None:
        """Write a 16-bit value into each packet, from the first on, at the `place`th word of 16 bits."""
        step = self._packet_shorts
        memoryview(self._packets).cast("B").cast("H")[place : len(values) * step : step] = values

    def send(self, first: int, count: int) -> Tuple[int, int]:
        """Send messages from number `first`: how many were sent, and the errno of the next one, else 0."""
        done = 0
        while done < count:
            headers = self._headers.buffer_info()[0] + _HEADER_BYTES * (first + done)
            sent = _sendmmsg(self._socket.fileno(), headers, count - done, 0)
            if sent <= 0:
                return done, ctypes.get_errno() or errno.EIO
            done += sent
        return done, 0


def _places(of: "array[int]", step_bytes: int, count: int) -> "array[int]":
    """Where in memory each of so many parts of an array begins."""
    start = of.buffer_info()[0]
    return array("Q", [start + step_bytes * number for number in range(count)])


_sendmmsg = ctypes.CDLL(None, use_errno=True).sendmmsg
_sendmmsg.argtypes = [ctypes.c_int, ctypes.c_void_p, ctypes.c_uint, ctypes.c_int]
