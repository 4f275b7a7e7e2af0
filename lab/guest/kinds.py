"""The kinds of load: which workers each needs, which of them begin first, and what ends it."""

import os
import re
import resource
from functools import partial
from typing import Callable, Dict, List, NamedTuple, Sequence, Tuple

from lab.guest import bodies, endings, flood, sources, topology
from lab.guest.bodies import Churning, Maker, Work
from lab.guest.churn import CLOSES, FIN
from lab.guest.server import GATHER_SECONDS
from lab.guest.spread import FIRST_PORT, Shard, shards

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
    newcomers: int = 0  # half-open, udp: TCP connections that are opened once all was sent
    topology: str = topology.LOOPBACK
    processes: int = 0  # of each side, at least; 0: one per processor
    loop: str = "asyncio"
    first_port: int = FIRST_PORT


class Wave(NamedTuple):
    """Workers that begin together; the next wave begins when every connection of this one has its answer."""

    connections: int
    work: Sequence[Work]
    rules: endings.Rules
    listeners: Sequence[Tuple[str, int, int]] = ()  # address, port, backlog
    ports: Sequence[int] = ()  # that packets are sent to, where nobody listens


class Kind(NamedTuple):
    """A kind of load."""

    waves: Callable[[LoadRequest], List[Wave]]
    has_sockets: bool = True  # one for each connection: what is open can be counted, and go over a network


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


def source_pattern(request: LoadRequest) -> str:
    """A regular expression of the addresses that the load's own connections come from."""
    if _is_local(request):
        return re.escape(sources.PREFIX) + r"\d+\.\d+"
    return re.escape(topology.ENDS[topology.CLIENT].address)


def source_networks(request: LoadRequest) -> List[str]:
    """Where the load's connections come from, as `source_pattern` has it."""
    if _is_local(request):
        return ["{}0.0/16".format(sources.PREFIX)]
    return ["{}/32".format(topology.ENDS[topology.CLIENT].address)]


def networks(request: LoadRequest) -> List[str]:
    """Where the load's packets come from and go to: a rule about other addresses does not concern it."""
    if _is_local(request):
        return ["127.0.0.0/8"]
    return ["{}/32".format(end.address) for end in topology.ENDS.values()]


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
    for name, value, known in (
        ("kind", request.kind, tuple(KINDS)),
        ("close", request.close, CLOSES),
        ("topology", request.topology, topology.TOPOLOGIES),
    ):
        if value not in known:
            raise LoadError("no such {}: {!r:.80}; there are {}".format(name, value, ", ".join(known)))
    if request.topology != topology.LOOPBACK and not KINDS[request.kind].has_sockets:
        raise LoadError("{} goes over loopback only: it needs all of its addresses".format(request.kind))


def _hold(request: LoadRequest) -> List[Wave]:
    def client(shard: Shard) -> Maker:
        return bodies.holding_client(shard, _is_local(request), _rate_of(shard, request))

    sides = Sides(partial(bodies.holding_server, local=_is_local(request)), client)
    return [_connected(request, request.connections, request.first_port, sides, endings.HOLD)]


def _churn(request: LoadRequest) -> List[Wave]:
    def server(shard: Shard, gather_seconds: float) -> Maker:
        return bodies.churning_server(shard, gather_seconds, _is_local(request), request.close)

    def client(shard: Shard) -> Maker:
        churning = Churning(_rate_of(shard, request), request.hold_seconds, request.close)
        return bodies.churning_client(shard, _is_local(request), churning)

    return [_connected(request, request.connections, request.first_port, Sides(server, client), endings.CHURN)]


def _flood(request: LoadRequest) -> List[Wave]:
    plan = flood.shares(
        request.kind, request.connections, _processes(request), request.first_port, request.rate_per_second
    )
    work = []
    for number, share in enumerate(plan):
        makers = (bodies.silent_receiver(request.kind, share), bodies.flooding_client(request.kind, share))
        work.append(Work("flood {}".format(number), topology.CLIENT, makers))
    waves = [Wave(request.connections, work, endings.FLOOD, ports=[share.port for share in plan])]
    if request.newcomers:
        first_port = max(share.port for share in plan) + 1
        local = _is_local(request)
        server = partial(bodies.holding_server, local=local)
        sides = Sides(server, lambda shard: bodies.holding_client(shard, local))
        waves.append(_connected(request, request.newcomers, first_port, sides, endings.NEWCOMERS))
    return waves


def _connected(request: LoadRequest, connections: int, first_port: int, sides: Sides, rules: endings.Rules) -> Wave:
    """A wave of servers and clients."""
    sides_of_process = 2 if _is_local(request) else 1
    address = topology.server_address(request.topology)
    plan = shards(
        connections, _processes(request), fd_limit(), ephemeral_ports(), first_port, address, sides_of_process
    )
    work = _in_pairs(plan, sides) if _is_local(request) else _apart(plan, sides)
    return Wave(connections, work, rules, [listener for shard in plan for listener in shard.listen])


def _is_local(request: LoadRequest) -> bool:
    """Whether both sides are in one place, so that one process can be both."""
    return request.topology == topology.LOOPBACK


def _in_pairs(plan: Sequence[Shard], sides: Sides) -> List[Work]:
    """Both sides of a shard in one process: without a change of process for each batch, an emulated machine takes half
    of the time, and a real one a tenth less of processor time.
    """
    return [
        Work(
            "pair {}".format(number), topology.CLIENT, (sides.server(shard, _PAIR_GATHER_SECONDS), sides.client(shard))
        )
        for number, shard in enumerate(plan)
    ]


def _apart(plan: Sequence[Shard], sides: Sides) -> List[Work]:
    servers = [
        Work("server {}".format(number), topology.SERVER, (sides.server(shard, GATHER_SECONDS),))
        for number, shard in enumerate(plan)
    ]
    clients = [
        Work("client {}".format(number), topology.CLIENT, (sides.client(shard),)) for number, shard in enumerate(plan)
    ]
    return servers + clients


def _rate_of(shard: Shard, request: LoadRequest) -> float:
    return request.rate_per_second * shard.connections / request.connections


def _processes(request: LoadRequest) -> int:
    return request.processes or os.sysconf("SC_NPROCESSORS_ONLN")


KINDS: Dict[str, Kind] = {
    "hold": Kind(_hold),
    "churn": Kind(_churn),
    flood.HALF_OPEN: Kind(_flood, has_sockets=False),
    flood.UDP: Kind(_flood, has_sockets=False),
}
