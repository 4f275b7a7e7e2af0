"""Where the load's own connections come from: addresses that nothing else uses, so that its entries are known.

All of 127.0.0.0/8 is local on the loopback interface, and so is a prefix of IPv6 that `topology` gives it. Each
connection is bound to an address and a port that no other connection of the load has, so that an entry in the table
belongs to exactly one of them.
"""

from typing import Iterator, Tuple

from lab.guest.files import read_text
from lab.guest.paths import IPV4, LOOPBACK_PREFIXES

PREFIX = LOOPBACK_PREFIXES[IPV4]
FLOOD = "127.77.0.1"  # loads without a socket for each connection have one source and many destinations
_ADDRESSES = 254  # of one shard: the last octet, without 0 and 255
MAX_SHARDS = 255  # the third octet, without the 0 of FLOOD
_PORT_RANGE = "/proc/sys/net/ipv4/ip_local_port_range"

Source = Tuple[str, int]  # address, port
Run = Tuple[str, range]  # an address, and ports of it


def flood_source(family: str) -> str:
    """Where a load without a socket for each connection comes from."""
    return source_address(family, 0, 1)


def port_range() -> Tuple[int, int]:
    """The lowest and the highest local port that the kernel chooses from (ip-sysctl.rst); raises OSError."""
    text, error, _ = read_text(_PORT_RANGE)
    if text is None:
        raise OSError("{} cannot be read: {}".format(_PORT_RANGE, error))
    low, high = (int(field) for field in text.split())
    return low, high


def sources(shard: int, family: str = IPV4) -> Iterator[Source]:
    """The sources of a shard's connections, each once: all ports of one address, then those of the next. OSError."""
    return ((address, port) for address, ports in source_runs(shard, family) for port in ports)


def source_runs(shard: int, family: str = IPV4) -> Iterator[Run]:
    """As `sources`, all of an address at once."""
    if not 0 <= shard < MAX_SHARDS:
        raise ValueError("there is no shard number {}: {} have addresses of their own".format(shard, MAX_SHARDS))
    low, high = port_range()  # now: a process out of descriptors can read no file
    return ((source_address(family, shard + 1, last), range(low, high + 1)) for last in range(1, _ADDRESSES + 1))


def source_address(family: str, third: int, last: int) -> str:
    """One of the load's own addresses on loopback."""
    if family == IPV4:
        return "{}{}.{}".format(LOOPBACK_PREFIXES[family], third, last)
    return "{}{:x}:{:x}".format(LOOPBACK_PREFIXES[family], third, last)
