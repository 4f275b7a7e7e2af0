"""Conntrack's counters by netlink, for kernels without NF_CONNTRACK_PROCFS: what `conntrack -S` asks for.

The messages are those of linux/netfilter/nfnetlink_conntrack.h, answered since 3.6 by nf_conntrack_netlink. A request
makes the kernel load that module, and with it conntrack; so none is sent before both are there.
"""

import socket
import struct
from typing import Dict, Iterator, List, Optional, Tuple

from lab.guest.apply import run_command

_NETLINK_NETFILTER = 12  # linux/netlink.h
_NLM_F_REQUEST, _NLM_F_DUMP = 0x1, 0x300
_NLMSG_ERROR, _NLMSG_DONE = 2, 3
_SUBSYSTEM = 1  # NFNL_SUBSYS_CTNETLINK
_GET_STATS_CPU, _GET_STATS = 4, 5  # enum cntl_msg_types
_GLOBAL_ENTRIES = 1  # CTA_STATS_GLOBAL_ENTRIES
_HEADER = struct.Struct("=IHHII")  # struct nlmsghdr
_FAMILY = struct.Struct("=BBH")  # struct nfgenmsg
_ATTRIBUTE = struct.Struct("=HH")  # struct nlattr
_TYPE_MASK = 0x3FFF
_ANSWER_SECONDS = 1.0
_ANSWER_BYTES = 65536
_MAX_ROWS = 4096
_LOAD_SECONDS = 10.0

# enum ctattr_stats_cpu, by the names of the columns of /proc/net/stat/nf_conntrack that show the same numbers. What a
# kernel does not count any more it does not send.
COLUMNS: Tuple[Tuple[int, str], ...] = (
    (1, "searched"),
    (2, "found"),
    (3, "new"),
    (4, "invalid"),
    (5, "ignore"),
    (6, "delete"),
    (7, "delete_list"),
    (8, "insert"),
    (9, "insert_failed"),
    (10, "drop"),
    (11, "early_drop"),
    (12, "icmp_error"),
    (13, "search_restart"),
    (14, "clashres"),
    (15, "chainlength"),
)


class Counters:
    """The counters of the network namespace in which it is made; call it only where conntrack is there already."""

    def __init__(self) -> None:
        """Raises OSError where the module cannot be had or no socket be made."""
        outcome = run_command(["modprobe", "--quiet", "nf_conntrack_netlink"], _LOAD_SECONDS)
        if outcome["exit_status"] != 0:
            raise OSError("nf_conntrack_netlink cannot be loaded: {}".format(outcome["stderr"].strip()))
        self._socket = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, _NETLINK_NETFILTER)
        self._socket.settimeout(_ANSWER_SECONDS)
        self._sequence = 0

    def text(self) -> str:
        """As /proc/net/stat/nf_conntrack: a line of names, and a line of hexadecimal numbers for each CPU.

        Raises OSError when the kernel does not answer, ValueError for an answer that is cut off.
        """
        entries = next((attributes.get(_GLOBAL_ENTRIES) for attributes in self._ask(_GET_STATS, 0)), None)
        return stat_text(entries, list(self._ask(_GET_STATS_CPU, _NLM_F_DUMP)))

    def close(self) -> None:
        """Close the socket."""
        self._socket.close()

    def _ask(self, message: int, flags: int) -> Iterator[Dict[int, int]]:
        self._sequence += 1
        size = _HEADER.size + _FAMILY.size
        header = _HEADER.pack(size, _SUBSYSTEM << 8 | message, _NLM_F_REQUEST | flags, self._sequence, 0)
        self._socket.send(header + _FAMILY.pack(socket.AF_UNSPEC, 0, 0))
        for _ in range(_MAX_ROWS):
            rows, ended = parse_answer(self._socket.recv(_ANSWER_BYTES), self._sequence)
            yield from rows
            if ended or not flags:
                return


def parse_answer(data: bytes, sequence: int) -> Tuple[List[Dict[int, int]], bool]:
    """The attributes of each message of an answer, those of 32 bits by their type, and whether it was the last one.

    Messages of an earlier question, whose answer came too late, are passed over. Raises OSError for the kernel's error,
    ValueError for bytes that are no netlink messages.
    """
    rows: List[Dict[int, int]] = []
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
            return rows, True
        if kind == _NLMSG_ERROR:
            raise OSError(-struct.unpack_from("=i", body)[0], "the kernel's answer")
        rows.append(_attributes(body[_FAMILY.size :]))
    return rows, False


def stat_text(entries: Optional[int], rows: List[Dict[int, int]]) -> str:
    """The rows of all CPUs in the form of /proc/net/stat/nf_conntrack; only the columns that the kernel sent."""
    columns = [(kind, name) for kind, name in COLUMNS if rows and all(kind in row for row in rows)]
    names = ["entries"] * (entries is not None) + [name for _, name in columns]
    lines = [" ".join(names)]
    for row in rows:
        numbers = ([] if entries is None else [entries]) + [row[kind] for kind, _ in columns]
        lines.append(" ".join("{:08x}".format(number) for number in numbers))
    return "\n".join(lines) + "\n"


def _attributes(data: bytes) -> Dict[int, int]:
    found: Dict[int, int] = {}
    at = 0
    while at + _ATTRIBUTE.size <= len(data):
        length, kind = _ATTRIBUTE.unpack_from(data, at)
        if length < _ATTRIBUTE.size or at + length > len(data):
            raise ValueError("netlink: an attribute of {} bytes, and {} are left".format(length, len(data) - at))
        if length == _ATTRIBUTE.size + 4:
            found[kind & _TYPE_MASK] = struct.unpack_from(">I", data, at + _ATTRIBUTE.size)[0]  # in network order
        at += _aligned(length)
    return found


def _aligned(length: int) -> int:
    return (length + 3) & ~3
