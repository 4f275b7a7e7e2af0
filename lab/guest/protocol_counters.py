"""The kernel's counters of IP and TCP, of the network namespace that this process is in."""

import os
from typing import Dict, Optional

from lab.guest.files import read_text

_SNMP_BYTES = 4096
FILES = {"snmp": "/proc/thread-self/net/snmp", "netstat": "/proc/thread-self/net/netstat"}


def read_all() -> Dict[str, Optional[str]]:
    """The raw texts by name; None for one that cannot be read."""
    return {name: read_text(path)[0] for name, path in FILES.items()}


class IcmpMessages:
    """Whether ICMP messages have come to the network namespace in which this was made (ICMP_MIB_INMSGS, icmp_rcv())."""

    def __init__(self) -> None:
        """Open the counters, while there are descriptors for it; raises OSError."""
        self._fd = os.open(FILES["snmp"], os.O_RDONLY | os.O_CLOEXEC)
        self._seen = self._count()

    def has_come(self) -> bool:
        """Whether one has come since this was asked last, or may have, as that cannot be read."""
        before, self._seen = self._seen, self._count()
        return self._seen is None or self._seen != before

    def close(self) -> None:
        """Close the counters."""
        os.close(self._fd)

    def _count(self) -> Optional[int]:
        rows = [row.split(b" ", 1)[0] for row in os.pread(self._fd, _SNMP_BYTES, 0).split(b"\nIcmp: ")]
        return int(rows[2]) if rows[1:2] == [b"InMsgs"] and len(rows) == 3 else None


def tcp_ext(name: str) -> Optional[int]:
    """A counter of TcpExt now; None where this kernel does not have it."""
    text = read_text(FILES["netstat"])[0] or ""
    rows = [line.split() for line in text.splitlines() if line.startswith("TcpExt:")]
    if len(rows) != 2 or name not in rows[0]:
        return None
    return int(rows[1][rows[0].index(name)])
