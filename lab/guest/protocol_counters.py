"""The kernel's counters of IP and TCP, of the network namespace that this process is in."""

from typing import Dict, Optional

from lab.guest.files import read_text

FILES = {"snmp": "/proc/thread-self/net/snmp", "netstat": "/proc/thread-self/net/netstat"}


def read_all() -> Dict[str, Optional[str]]:
    """The raw texts by name; None for one that cannot be read."""
    return {name: read_text(path)[0] for name, path in FILES.items()}


def tcp_ext(name: str) -> Optional[int]:
    """A counter of TcpExt now; None where this kernel does not have it."""
    text = read_text(FILES["netstat"])[0] or ""
    rows = [line.split() for line in text.splitlines() if line.startswith("TcpExt:")]
    if len(rows) != 2 or name not in rows[0]:
        return None
    return int(rows[1][rows[0].index(name)])
