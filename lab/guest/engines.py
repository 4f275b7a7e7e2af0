"""What carries a load's connections: io_uring(7) where the kernel has it and it covers the load, else system calls."""

import errno
from typing import Iterator, NamedTuple, Optional

from lab.guest.accepts import Accepts
from lab.guest.connects import Connects, PolledConnects
from lab.guest.files import error_name
from lab.guest.paths import IPV4
from lab.guest.sources import Source, source_runs, sources
from lab.guest.spread import Shard
from lab.guest.states import addresses
from lab.guest.uring import ring
from lab.guest.uring.accepts import RingAccepts
from lab.guest.uring.connects import RingConnects

IO_URING, EPOLL = ENGINES = ("io_uring", "epoll")
_NEEDED = {
    "IORING_OP_ACCEPT": ring.ACCEPT,
    "IORING_OP_CONNECT": ring.CONNECT,
    "IORING_OP_ASYNC_CANCEL": ring.ASYNC_CANCEL,
    "IORING_OP_SOCKET": ring.SOCKET,  # 5.19
}


class Engine(NamedTuple):
    """Which of ENGINES, and why it is not io_uring."""

    name: str
    reason: Optional[str] = None


def choose(asked_for: str, family: str) -> Engine:
    """The engine of a load's TCP connections; `asked_for` is one of ENGINES, or empty for the best one."""
    if asked_for == EPOLL:
        return Engine(EPOLL, "it was asked for")
    if family != IPV4:
        return Engine(EPOLL, "io_uring is for IPv4 alone")
    refusal = ring_refusal()
    return Engine(IO_URING) if refusal is None else Engine(EPOLL, refusal)


def ring_refusal() -> Optional[str]:
    """Why this process can have no ring that will do; None where it can."""
    try:
        operations = ring.supported()
    except OSError as error:
        known = {errno.ENOSYS: "this kernel has no io_uring", errno.EPERM: "io_uring is not allowed here"}
        return known.get(error.errno or 0, "io_uring: {}".format(error_name(error)))
    missing = [name for name, number in _NEEDED.items() if number not in operations]
    return "this kernel's io_uring has no {}".format(", ".join(missing)) if missing else None


def connects(shard: Shard) -> Connects:
    """What begins the connections of a shard."""
    if shard.by_ring:
        runs = source_runs(shard.number) if shard.local else None
        return RingConnects(addresses(shard.targets), runs, binds=ring.BIND in ring.supported())
    return PolledConnects(addresses(shard.targets), sources_of(shard))


def accepts(shard: Shard) -> Accepts:
    """What accepts the connections of a shard."""
    return RingAccepts(shard.own) if shard.by_ring else Accepts(shard.own)


def sources_of(shard: Shard) -> Optional[Iterator[Source]]:
    """Where a shard's connections come from; None where the kernel chooses."""
    return sources(shard.number, shard.family) if shard.local else None
