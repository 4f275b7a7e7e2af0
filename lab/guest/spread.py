"""How connections are spread over listeners and processes: neither ports nor backlogs nor descriptors interfere."""

from typing import List, NamedTuple, Tuple

from lab.guest.paths import IPV4, LOOPBACK_ADDRESSES

FIRST_PORT = 7777  # the article's; below the ephemeral range, so that no outgoing socket takes a listener's port
LAST_PORT = 65535
ADDRESS = LOOPBACK_ADDRESSES[IPV4]
MIN_LISTENERS = 8
MAX_PER_LISTENER = 4096  # one backlog's worth, far below what somaxconn can be raised to
SPARE_DESCRIPTORS = 128
# Up to half of the range per (source, destination, destination port) a free port is found at once; at 60 % the search
# costs a factor of 4, at 95 % of 10, and past it connects fail with EADDRNOTAVAIL (measured).
USABLE_PORT_SHARE = 0.45


class Shard(NamedTuple):
    """The listeners of one server and the client that connects to them, in one process or in two."""

    listen: Tuple[Tuple[str, int, int], ...]  # address, port, connections (which is also the backlog)
    connections: int
    number: int = 0  # from 0
    family: str = IPV4
    local: bool = True  # both sides in one place: the connections come from addresses of the load's own
    own: Tuple[str, ...] = ()  # what the addresses begin with that these come from, as the listeners see them
    by_ring: bool = False  # its connections go through io_uring(7)
    connect_to: str = ""  # where a rule leads to the listeners; "": their own address

    @property
    def targets(self) -> Tuple[Tuple[str, int, int], ...]:
        """What the client connects to: address, port, connections."""
        return tuple((self.connect_to or address, port, count) for address, port, count in self.listen)


def shards(
    connections: int,
    processes: int,
    fd_limit: int,
    ephemeral_ports: int,
    first_port: int = FIRST_PORT,
    address: str = ADDRESS,
    sides: int = 1,
) -> List[Shard]:
    """Split `connections` over at least `processes` shards, more when `fd_limit` asks for it: a process is one of the
    `sides` of a shard or both, and has a descriptor of each connection for each.

    Raises ValueError when there is nothing to split, or no room for even one connection in a process.
    """
    if connections < 1:
        raise ValueError("{} connections are none to hold".format(connections))
    per_listener = min(MAX_PER_LISTENER, int(ephemeral_ports * USABLE_PORT_SHARE))
    # a server's listeners take descriptors too: one for every `per_listener` connections
    per_process = (fd_limit - SPARE_DESCRIPTORS) * per_listener // (sides * per_listener + 1)
    if per_process < 1 or per_listener < 1:
        raise ValueError("{} descriptors and {} ephemeral ports hold no connection".format(fd_limit, ephemeral_ports))
    pairs = max(min(processes, connections), _divide_up(connections, per_process))
    plan: List[Shard] = []
    port = first_port
    for shard, share in enumerate(_share(connections, pairs)):
        listeners = max(min(_divide_up(MIN_LISTENERS, pairs), share), _divide_up(share, per_listener))
        counts = _share(share, listeners)
        plan.append(Shard(tuple((address, port + number, count) for number, count in enumerate(counts)), share, shard))
        port += listeners
    if port > LAST_PORT + 1:
        raise ValueError("{} connections need more listeners than there are ports".format(connections))
    return plan


def _share(total: int, parts: int) -> List[int]:
    """`total` in `parts` shares that differ by at most one."""
    base, rest = divmod(total, parts)
    return [base + (number < rest) for number in range(parts)]


def _divide_up(total: int, by: int) -> int:
    return -(-total // by)
