"""The kinds of load: which workers each needs, which of them begin first, and what ends it."""

import os
import resource
from typing import Any, Callable, Dict, List, NamedTuple, Optional, Sequence, Tuple

from lab.guest import bodies, endings, engines, flood, paths, sources
from lab.guest.bodies import Churning, Maker, Work
from lab.guest.churn import CLOSES, FIN
from lab.guest.flood import Share
from lab.guest.packets import HALF_OPEN, UDP, Route
from lab.guest.server import GATHER_SECONDS
from lab.guest.spread import FIRST_PORT, Shard, shards

# What one process opens and closes at ease, also in an emulated guest. More processes would only wake more often.
_RATE_OF_A_PROCESS = 1000
_PAIR_GATHER_SECONDS = 0.0  # the client's batch is done when the server's turn comes: there is nothing to wait for


class LoadError(Exception):
    """The load could not be driven at all: no finding can come of it."""


class LoadRequest(NamedTuple):
    """What to drive against the table, and until when at most."""

    connections: int
    deadline_seconds: float
    kind: str = "hold"  # a key of KINDS
    rate_per_second: int = 0  # 0: as fast as it goes
    hold_seconds: float = 0.0  # churn: how long each connection stays open
    close: str = FIN  # churn: one of CLOSES
    newcomers: int = 0  # hold, half-open, udp: TCP connections that are opened once all else was
    answered: bool = False  # udp: there are answers, and a socket for each
    data: bool = False  # hold: each held connection carries a byte there and back at the end
    during: Sequence[Dict[str, Any]] = ()  # steps to apply while the connections are there
    path: str = paths.LOOPBACK
    family: str = paths.IPV4  # or paths.BOTH
    processes: int = 0  # of each side, at least; 0: one per processor
    loop: str = "asyncio"
    engine: str = ""  # one of engines.ENGINES; "": the best that there is
    first_port: int = FIRST_PORT


class Wave(NamedTuple):
    """Workers that begin together; the next wave begins when every connection of this one has its answer."""

    connections: int
    work: Sequence[Work]
    rules: endings.Rules
    listeners: Sequence[Tuple[str, Tuple[str, int, int]]] = ()  # family; address, port, backlog
    ports: Sequence[Tuple[str, int]] = ()  # family, port: that packets are sent to, where nobody listens


class Kind(NamedTuple):
    """A kind of load."""

    waves: Callable[[LoadRequest], List[Wave]]
    has_sockets: bool = True  # one for each connection: what is open can be counted


class Sides(NamedTuple):
    """What makes the two sides of a shard."""

    server: Callable[[Shard, float], Maker]  # with how long connections gather
    client: Callable[[Shard], Maker]


def waves_of(request: LoadRequest) -> List[Wave]:
    """The waves of a load; raises LoadError for one that cannot be driven."""
    _check(request)
    try:
        return KINDS[request.kind].waves(request)
    except ValueError as error:
        raise LoadError(str(error))


def source_patterns(request: LoadRequest) -> Dict[str, str]:
    """Regular expressions of the addresses that the load's own connections come from, by family."""
    return {family: paths.source_pattern(request.path, family) for family in paths.families_of(request.family)}


def fd_limit() -> int:
    """The soft limit of open files of this process (getrlimit(2)), raised to the hard one."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return resource.getrlimit(resource.RLIMIT_NOFILE)[0]


def ephemeral_ports() -> int:
    """How many local ports the kernel may choose from (ip-sysctl.rst, ip_local_port_range)."""
    try:
        low, high = sources.port_range()
    except OSError as error:
        raise LoadError(str(error))
    return high - low + 1


def _check(request: LoadRequest) -> None:
    if request.connections < 1:
        raise LoadError("{} connections are none".format(request.connections))
    for name, value, known in (
        ("kind", request.kind, tuple(KINDS)),
        ("close", request.close, CLOSES),
        ("path", request.path, tuple(paths.PATHS)),
        ("engine", request.engine, ("", *engines.ENGINES)),
        ("family", request.family, (*paths.FAMILIES, paths.BOTH)),
    ):
        if value not in known:
            raise LoadError("no such {}: {!r:.80}; there are {}".format(name, value, ", ".join(known)))


def _hold(request: LoadRequest) -> List[Wave]:
    def client(shard: Shard) -> Maker:
        return bodies.holding_client(shard, _rate_of(shard, request))

    sides = Sides(bodies.holding_server, client)
    return _with_newcomers(request, [_connected(request, request.connections, request.first_port, sides, endings.HOLD)])


def _churn(request: LoadRequest) -> List[Wave]:
    def server(shard: Shard, gather_seconds: float) -> Maker:
        return bodies.churning_server(shard, gather_seconds, request.close)

    def client(shard: Shard) -> Maker:
        churning = Churning(_rate_of(shard, request), request.hold_seconds, request.close)
        return bodies.churning_client(shard, churning)

    return [_connected(request, request.connections, request.first_port, Sides(server, client), endings.CHURN)]


def _udp(request: LoadRequest) -> List[Wave]:
    if not request.answered:
        return _flood(request)

    def client(shard: Shard) -> Maker:
        return bodies.asking_client(shard, _rate_of(shard, request))

    sides = Sides(bodies.answering_server, client)
    return _with_newcomers(
        request, [_connected(request, request.connections, request.first_port, sides, endings.CHURN)]
    )


def _flood(request: LoadRequest) -> List[Wave]:
    work: List[Work] = []
    ports: List[Tuple[str, int]] = []
    rules = endings.FLOOD
    for family, connections in parts(request, request.connections):
        rate = request.rate_per_second * connections // request.connections
        if request.rate_per_second:
            rate = max(1, rate)
        first_port = _port_after(ports, request.first_port)
        route = _route(request, family)
        rules = endings.FLOOD if route is None else endings.SENT
        plan = flood.shares(request.kind, connections, _processes(request), first_port, rate, route)
        for share in plan:
            work += _flood_work(request, family, share, len(work))
        ports += [(family, share.port) for share in plan]
    wave = Wave(request.connections, work, rules, ports=ports)
    return _with_newcomers(request, [wave])


def _route(request: LoadRequest, family: str) -> Optional[Route]:
    """None where the load has thousands of addresses on loopback."""
    remote = bool(paths.PATHS[request.path].links)
    if not remote and family == paths.IPV4:
        return None
    source = paths.client_address(request.path, family) if remote else sources.flood_source(family)
    return Route(family, source, paths.connect_address(request.path, family))


def _flood_work(request: LoadRequest, family: str, share: Share, number: int) -> List[Work]:
    client = bodies.flooding_client(request.kind, share)
    if share.route is None:
        makers = (bodies.silent_receiver(request.kind, share), client)
        return [Work("flood {}".format(number), paths.CLIENT, makers, family)]
    receiver = bodies.counting_receiver(request.kind, share, paths.listen_address(request.path, family))
    return [
        Work("receiver {}".format(number), paths.SERVER, (receiver,), family),
        Work("flood {}".format(number), paths.CLIENT, (client,), family),
    ]


def _with_newcomers(request: LoadRequest, waves: List[Wave]) -> List[Wave]:
    """The waves, and that of the newcomers where there are to be any."""
    if not request.newcomers:
        return waves
    used = [(family, port) for wave in waves for family, port in wave.ports]
    used += [(family, listener[1]) for wave in waves for family, listener in wave.listeners]
    sides = Sides(bodies.holding_server, bodies.holding_client)
    first_port = _port_after(used, request.first_port)
    return [*waves, _connected(request, request.newcomers, first_port, sides, endings.NEWCOMERS)]


def _port_after(used: Sequence[Tuple[str, int]], first: int) -> int:
    return max((port + 1 for _, port in used), default=first)


def parts(request: LoadRequest, connections: int) -> List[Tuple[str, int]]:
    """How many connections each family has: half of them each where it is both."""
    families = paths.families_of(request.family)
    shares = [connections // len(families) + (number < connections % len(families)) for number in range(len(families))]
    return [(family, share) for family, share in zip(families, shares) if share or len(families) == 1]


def _connected(request: LoadRequest, connections: int, first_port: int, sides: Sides, rules: endings.Rules) -> Wave:
    """A wave of servers and clients."""
    work: List[Work] = []
    listeners: List[Tuple[str, Tuple[str, int, int]]] = []
    for family, part in parts(request, connections):
        at = _port_after([(one, listener[1]) for one, listener in listeners], first_port)
        plan = _shards(request, family, part, at)
        work += _in_pairs(plan, sides) if _is_local(request) else _apart(plan, sides)
        listeners += [(family, listener) for shard in plan for listener in shard.listen]
    return Wave(connections, work, rules, listeners)


def _shards(request: LoadRequest, family: str, connections: int, first_port: int) -> List[Shard]:
    address = paths.listen_address(request.path, family)
    sides = 2 if _is_local(request) else 1
    plan = shards(connections, _processes(request), fd_limit(), ephemeral_ports(), first_port, address, sides)
    own, connect_to = _own(request, family), paths.connect_address(request.path, family)
    by_ring = request.engine == engines.IO_URING
    return [
        shard._replace(family=family, local=_is_local(request), own=own, connect_to=connect_to, by_ring=by_ring)
        for shard in plan
    ]


def _own(request: LoadRequest, family: str) -> Tuple[str, ...]:
    """What the addresses begin with that listeners see; two processes on one loopback use its own address."""
    if paths.PATHS[request.path].links or _is_local(request):
        return paths.own_addresses(request.path, family)
    return (paths.LOOPBACK_ADDRESSES[family],)


def _is_local(request: LoadRequest) -> bool:
    """Whether both sides are in one place, so that one process can be both."""
    return not paths.PATHS[request.path].links


def _in_pairs(plan: Sequence[Shard], sides: Sides) -> List[Work]:
    """Both sides of a shard in one process: without a change of process for each batch, an emulated machine takes half
    of the time, and a real one a tenth less of processor time.
    """
    return [
        Work(
            "pair {}".format(number),
            paths.CLIENT,
            (sides.server(shard, _PAIR_GATHER_SECONDS), sides.client(shard)),
            shard.family,
        )
        for number, shard in enumerate(plan)
    ]


def _apart(plan: Sequence[Shard], sides: Sides) -> List[Work]:
    servers = [
        Work("server {}".format(number), paths.SERVER, (sides.server(shard, GATHER_SECONDS),), shard.family)
        for number, shard in enumerate(plan)
    ]
    clients = [
        Work("client {}".format(number), paths.CLIENT, (sides.client(shard),), shard.family)
        for number, shard in enumerate(plan)
    ]
    return servers + clients


def _rate_of(shard: Shard, request: LoadRequest) -> float:
    return request.rate_per_second * shard.connections / request.connections


def _processes(request: LoadRequest) -> int:
    """As many as there are processors, or as the rate needs."""
    processors = os.sysconf("SC_NPROCESSORS_ONLN")
    needed = -(-request.rate_per_second // _RATE_OF_A_PROCESS) or processors
    return request.processes or min(processors, needed)


KINDS: Dict[str, Kind] = {
    "hold": Kind(_hold),
    "churn": Kind(_churn),
    HALF_OPEN: Kind(_flood, has_sockets=False),
    UDP: Kind(_udp, has_sockets=False),
}
