"""Conntrack's counters by netlink, for kernels without NF_CONNTRACK_PROCFS: what `conntrack -S` asks for.

The messages are those of linux/netfilter/nfnetlink_conntrack.h, answered since 3.6 by nf_conntrack_netlink. A request
makes the kernel load that module, and with it conntrack; so none is sent before both are there.
"""

import socket
from typing import Dict, Iterator, List, Optional, Tuple

from lab.guest.apply import run_command
from lab.guest.nfnetlink import DUMP, Subsystem, attributes, numbers

_SUBSYSTEM = 1  # NFNL_SUBSYS_CTNETLINK
_GET, _GET_STATS_CPU, _GET_STATS = 1, 4, 5  # enum cntl_msg_types
_GLOBAL_ENTRIES = 1  # CTA_STATS_GLOBAL_ENTRIES
_TUPLE_ORIG, _PROTOINFO = 1, 4  # enum ctattr_type; in a tuple enum ctattr_tuple, in that ctattr_ip and ctattr_l4proto
_TUPLE_IP, _TUPLE_PROTO = 1, 2
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


# enum tcp_conntrack (linux/netfilter/nf_conntrack_tcp.h), as /proc prints them
TCP_STATES: Dict[int, str] = dict(
    enumerate("NONE SYN_SENT SYN_RECV ESTABLISHED FIN_WAIT CLOSE_WAIT LAST_ACK TIME_WAIT CLOSE SYN_SENT2".split())
)


class Counters:
    """The counters of the network namespace in which it is made; call it only where conntrack is there already."""

    def __init__(self) -> None:
        """Raises OSError where the module cannot be loaded or no socket be made."""
        outcome = run_command(["modprobe", "--quiet", "nf_conntrack_netlink"], _LOAD_SECONDS)
        if outcome["exit_status"] != 0:
            raise OSError("nf_conntrack_netlink cannot be loaded: {}".format(outcome["stderr"].strip()))
        self._subsystem = Subsystem(_SUBSYSTEM)

    def text(self) -> str:
        """As /proc/net/stat/nf_conntrack: a line of names, and a line of hexadecimal numbers for each CPU.

        Raises OSError when the kernel does not answer, ValueError for an answer that is cut off.
        """
        entries = next((attributes.get(_GLOBAL_ENTRIES) for attributes in self._ask(_GET_STATS, 0)), None)
        return stat_text(entries, list(self._ask(_GET_STATS_CPU, DUMP)))

    def close(self) -> None:
        """Close the socket."""
        self._subsystem.close()

    def entries(self) -> Iterator[str]:
        """The rows of the table in parts, as /proc/net/nf_conntrack begins them, as far as the first direction's ports.

        Raises OSError and ValueError as `text` does.
        """
        for family in (socket.AF_INET, socket.AF_INET6):
            for bodies in self._subsystem.answers(_GET, DUMP, family):
                yield "".join(entry_row(family, body) for body in bodies)

    def _ask(self, message: int, flags: int) -> Iterator[Dict[int, int]]:
        for bodies in self._subsystem.answers(message, flags, socket.AF_UNSPEC):
            for body in bodies:
                yield numbers(body)


def entry_row(family: int, body: bytes) -> str:
    """A row of the table from the attributes of one entry (enum ctattr_type). Raises ValueError for what is none."""
    found = dict(attributes(body))
    original = dict(attributes(found.get(_TUPLE_ORIG, b"")))
    addresses, ports = (dict(attributes(original.get(kind, b""))) for kind in (_TUPLE_IP, _TUPLE_PROTO))
    source, destination = (
        _address(family, addresses) for addresses in (_pick(addresses, 1, 3), _pick(addresses, 2, 4))
    )
    protocol = int.from_bytes(ports.get(1, b""), "big")
    tcp = dict(attributes(dict(attributes(found.get(_PROTOINFO, b""))).get(1, b"")))
    state = TCP_STATES.get(int.from_bytes(tcp.get(1, b""), "big"), "") if tcp else ""
    known = {socket.IPPROTO_TCP: "tcp", socket.IPPROTO_UDP: "udp"}
    start = "ipv4 2" if family == socket.AF_INET else "ipv6 10"
    numbers = (
        " sport={} dport={}".format(*(int.from_bytes(ports[kind], "big") for kind in (2, 3))) if 3 in ports else ""
    )
    name = known.get(protocol, "unknown")
    return "{} {} {} 0 {}src={} dst={}{}\n".format(
        start, name, protocol, state and state + " ", source, destination, numbers
    )


def _pick(addresses: Dict[int, bytes], ipv4: int, ipv6: int) -> bytes:
    return addresses.get(ipv4) or addresses.get(ipv6) or b""


def _address(family: int, packed: bytes) -> str:
    try:
        return socket.inet_ntop(family, packed)
    except ValueError:
        return "?"


def stat_text(entries: Optional[int], rows: List[Dict[int, int]]) -> str:
    """The rows of all CPUs in the form of /proc/net/stat/nf_conntrack; only the columns that the kernel sent."""
    columns = [(kind, name) for kind, name in COLUMNS if rows and all(kind in row for row in rows)]
    names = ["entries"] * (entries is not None) + [name for _, name in columns]
    lines = [" ".join(names)]
    for row in rows:
        numbers = ([] if entries is None else [entries]) + [row[kind] for kind, _ in columns]
        lines.append(" ".join("{:08x}".format(number) for number in numbers))
    return "\n".join(lines) + "\n"
