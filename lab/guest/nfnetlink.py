"""Questions to a subsystem of netfilter by netlink: nfnetlink, linux/netfilter/nfnetlink.h.

A question to a subsystem that is not there makes the kernel load its module.
"""

import socket
import struct
from typing import Dict, Iterator, List, Tuple

DUMP = 0x300  # NLM_F_DUMP, linux/netlink.h
_NETLINK_NETFILTER = 12
_NLM_F_REQUEST = 0x1
_NLMSG_ERROR, _NLMSG_DONE = 2, 3
_HEADER = struct.Struct("=IHHII")  # struct nlmsghdr
_FAMILY = struct.Struct("=BBH")  # struct nfgenmsg
_ATTRIBUTE = struct.Struct("=HH")  # struct nlattr
_NUMBER = struct.Struct(">I")  # attributes are in network order
_ERROR = struct.Struct("=i")  # of struct nlmsgerr
_TYPE_MASK = 0x3FFF
_ANSWER_SECONDS = 1.0
_ANSWER_BYTES = 65536
_MAX_ANSWERS = 65536  # to one question, each of several messages


class Subsystem:
    """One of netfilter's subsystems in the network namespace in which this is made."""

    def __init__(self, number: int) -> None:
        """`number` is one of NFNL_SUBSYS_*. Raises OSError where no socket can be made."""
        self._number = number
        self._socket = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, _NETLINK_NETFILTER)
        self._socket.settimeout(_ANSWER_SECONDS)
        self._sequence = 0

    def answers(self, message: int, flags: int, family: int, request: bytes = b"") -> Iterator[List[bytes]]:
        """What the kernel answers, as of `parse_answer`; `request` are attributes. With DUMP there may be many answers.

        Raises OSError for the kernel's error, or when it does not answer; ValueError for an answer that is cut off.
        """
        self._sequence += 1
        size = _HEADER.size + _FAMILY.size + len(request)
        header = _HEADER.pack(size, self._number << 8 | message, _NLM_F_REQUEST | flags, self._sequence, 0)
        self._socket.send(header + _FAMILY.pack(family, 0, 0) + request)
        for _ in range(_MAX_ANSWERS):
            bodies, ended = parse_answer(self._socket.recv(_ANSWER_BYTES), self._sequence)
            yield bodies
            if ended or not flags:
                return

    def close(self) -> None:
        """Close the socket."""
        self._socket.close()


def parse_answer(data: bytes, sequence: int) -> Tuple[List[bytes], bool]:
    """The attributes of each message of an answer, as bytes, and whether it was the last one.

    Messages of an earlier question, whose answer came too late, are passed over. Raises OSError for the kernel's error,
    ValueError for bytes that are no netlink messages.
    """
    rows: List[bytes] = []
    at = 0
    while at + _HEADER.size <= len(data):
        length, kind, _, number, _ = _HEADER.unpack_from(data, at)
        if length < _HEADER.size or at + length > len(data):
            raise ValueError("netlink: a message of {} bytes, and {} are left".format(length, len(data) - at))
        body = data[at + _HEADER.size : at + length]
        at += _aligned(length)
        if number != sequence:
            continue
        if kind == _NLMSG_DONE:
            _refuse(body)
            return rows, True
        if kind == _NLMSG_ERROR:
            raise OSError(-_ERROR.unpack_from(body)[0], "the kernel's answer")
        rows.append(body[_FAMILY.size :])
    return rows, False


def attribute(kind: int, value: bytes) -> bytes:
    """A struct nlattr."""
    return _ATTRIBUTE.pack(_ATTRIBUTE.size + len(value), kind) + value + bytes(-len(value) % 4)


def number_attribute(kind: int, value: int) -> bytes:
    """An attribute of 32 bits."""
    return attribute(kind, _NUMBER.pack(value))


def numbers(body: bytes) -> Dict[int, int]:
    """The attributes of a message that have 32 bits, by their type. Raises ValueError for what is none."""
    return {kind: _NUMBER.unpack(value)[0] for kind, value in attributes(body) if len(value) == _NUMBER.size}


def attributes(data: bytes) -> Iterator[Tuple[int, bytes]]:
    """The type and the value of each attribute (linux/netlink.h, struct nlattr). Raises ValueError for what is none."""
    at = 0
    while at + _ATTRIBUTE.size <= len(data):
        length, kind = _ATTRIBUTE.unpack_from(data, at)
        if length < _ATTRIBUTE.size or at + length > len(data):
            raise ValueError("netlink: an attribute of {} bytes, and {} are left".format(length, len(data) - at))
        yield kind & _TYPE_MASK, data[at + _ATTRIBUTE.size : at + length]
        at += _aligned(length)


def _refuse(body: bytes) -> None:
    """A dump that fails ends with its error (netlink_dump_done(), net/netlink/af_netlink.c)."""
    code = _ERROR.unpack_from(body)[0] if len(body) >= _ERROR.size else 0
    if code < 0:
        raise OSError(-code, "the kernel's answer")


def _aligned(length: int) -> int:
    return (length + 3) & ~3
