"""What a scenario file says, as values: the machine, the steps, the table, the load, what is expected."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from lab.core.scenario.condition import NOTHING, Requirement
from lab.core.scenario.expectation import AxisValue, Chosen, Expectation

# 1 - first version. Raised when what a file means changes: newer files are refused, older ones understood for ever.
SCENARIO_VERSION = 1

DEFAULT_MEMORY_MB = 1536
DEFAULT_VCPUS = 2
DEFAULT_CONNECTIONS = 20_000  # the article's 19,998, rounded

# Kinds of load, and the keys of [load] that mean something to each beside kind and connections.
LOAD_KINDS: Mapping[str, tuple[str, ...]] = {
    "hold": ("newcomers", "data"),
    "churn": ("rate_per_second", "hold_seconds", "close"),
    "half-open": ("rate_per_second", "newcomers"),
    "udp": ("rate_per_second", "newcomers", "answered"),
}
# How the connections of `churn` end: with FIN, with RST, on both sides without a word, or on the client's side alone.
CLOSES = ("fin", "reset", "vanish", "half")
MAX_HOLD_SECONDS = 3600.0
MAX_ANSWERED = 100_000


@dataclass(frozen=True)
class PathSpec:
    """A path that the load can take (lab/guest/paths.py has its links): what is remote, what the machine needs."""

    ends: tuple[str, ...] = ()  # of client and server, those in a namespace of their own
    modules: tuple[str, ...] = ()
    stands_for: str = ""  # which host


_ENDS = ("client", "server")
PATHS: Mapping[str, PathSpec] = {
    "loopback": PathSpec(stands_for="a host that talks to itself: a proxy before its own backend, a health check"),
    "local": PathSpec(("client",), ("veth",), "a server with remote clients"),
    "outbound": PathSpec(("server",), ("veth",), "a host that connects out: a crawler, a proxy, a worker"),
    "forward": PathSpec(_ENDS, ("veth",), "a router, a NAT gateway, a VPN server"),
    "bridge": PathSpec(_ENDS, ("veth", "bridge"), "a host of virtual machines on a bridge"),
    "published": PathSpec(_ENDS, ("veth",), "a container host, where a rule leads a port of the host to a container"),
}
DEFAULT_PATH = "loopback"
# what paths were called in `topology`, which older files have
TOPOLOGIES: Mapping[str, str] = {"loopback": "loopback", "netns": "forward"}
FAMILIES = ("ipv4", "ipv6", "both")

# The kernel's timeouts under short names; the same from 3.10 to 7.2.
TIMEOUT_SYSCTLS: Mapping[str, str] = {
    "generic": "net.netfilter.nf_conntrack_generic_timeout",
    "icmp": "net.netfilter.nf_conntrack_icmp_timeout",
    "icmpv6": "net.netfilter.nf_conntrack_icmpv6_timeout",
    "udp": "net.netfilter.nf_conntrack_udp_timeout",
    "udp_stream": "net.netfilter.nf_conntrack_udp_timeout_stream",
} | {
    f"tcp_{state}": f"net.netfilter.nf_conntrack_tcp_timeout_{state}"
    for state in (
        "syn_sent",
        "syn_recv",
        "established",
        "fin_wait",
        "close_wait",
        "last_ack",
        "time_wait",
        "close",
        "max_retrans",
        "unacknowledged",
    )
}

Axes = Mapping[str, AxisValue]
Matrix = Mapping[str, tuple[AxisValue, ...]]


@dataclass(frozen=True)
class RunStep:
    """Run a program, as argv; `refused` when it should fail."""

    argv: tuple[str, ...]
    refused: bool = False
    when: Chosen = field(default_factory=dict, hash=False)
    end: str | None = None  # the end of the path that it runs in; None: the machine itself


@dataclass(frozen=True)
class FileStep:
    """Write a file. `source` is the file beside the scenario that the text was read from; it means nothing more."""

    path: str
    text: str
    when: Chosen = field(default_factory=dict, hash=False)
    source: str = field(default="", compare=False)


@dataclass(frozen=True)
class SysctlStep:
    """Write sysctls, in order."""

    values: tuple[tuple[str, str], ...]
    when: Chosen = field(default_factory=dict, hash=False)
    end: str | None = None


@dataclass(frozen=True)
class UnloadStep:
    """Remove those of the modules that are loaded, in order; module names differ from kernel to kernel."""

    modules: tuple[str, ...]
    when: Chosen = field(default_factory=dict, hash=False)


Step = RunStep | FileStep | SysctlStep | UnloadStep


@dataclass(frozen=True)
class MachineSpec:
    """The machine that a scenario asks for."""

    boot_args: tuple[str, ...] = ()
    memory_mb: int = DEFAULT_MEMORY_MB
    vcpus: int = DEFAULT_VCPUS
    path: str | None = None  # one of PATHS; None: loopback
    packages: tuple[str, ...] = ()  # of Debian, beside the target's own; sorted


@dataclass(frozen=True)
class ConntrackSpec:
    """The table; None leaves the kernel's own size. `timeouts` maps keys of TIMEOUT_SYSCTLS to seconds."""

    max: int | None = None
    buckets: int | None = None
    timeouts: Mapping[str, int] = field(default_factory=dict, hash=False)


@dataclass(frozen=True)
class LoadSpec:
    """What is driven against the table. None is what the kind does by itself, or has no use for."""

    kind: str = "hold"
    connections: int = DEFAULT_CONNECTIONS
    rate_per_second: int | None = None  # None: as fast as it goes
    hold_seconds: float | None = None  # churn: how long each connection stays open
    close: str | None = None  # churn: one of CLOSES
    newcomers: int | None = None  # hold, half-open, udp: TCP connections that are opened after all else
    answered: bool = False  # udp: there are answers
    data: bool = False  # hold: each held connection carries a byte there and back at the end
    family: str | None = None  # one of FAMILIES; None: ipv4


@dataclass(frozen=True)
class Scenario:
    """A checked scenario file. Mappings keep the file's order and are not to be changed."""

    path: str
    name: str
    summary: str
    version: int = SCENARIO_VERSION
    matrix: Matrix = field(default_factory=dict, hash=False)
    state: tuple[Step, ...] = ()
    requires: Requirement = NOTHING
    machine: MachineSpec = MachineSpec()
    conntrack: ConntrackSpec = ConntrackSpec()
    load: LoadSpec = LoadSpec()
    during: tuple[Step, ...] = ()  # steps that run while the load is there
    expectations: tuple[Expectation, ...] = ()
