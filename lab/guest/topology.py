"""Where client, router and server stand: all on loopback, or in network namespaces of their own beside this one.

With "netns" this namespace, whose table is watched, becomes the router between two others:

    eth0 in lab-client 198.51.100.2 --- 198.51.100.1 lab-c0 | here | eth0 203.0.113.1 --- 203.0.113.2 eth0 in lab-server

What it forwards passes PRE_ROUTING and POST_ROUTING; a packet that is dropped there is lost without a word to its
sender. Neither namespaces nor veth need a module of netfilter (veth.ko depends on nothing: modules.dep, 5.10 to 7.2).
"""

import ctypes
import os
import socket
import time
from contextlib import contextmanager
from typing import Any, Dict, Iterator, List, NamedTuple, Tuple

from lab.guest.apply import run_command
from lab.guest.files import error_name, read_text
from lab.guest.machine import LIMITS, set_existing

LOOPBACK = "loopback"
NETNS = "netns"
TOPOLOGIES = (LOOPBACK, NETNS)

CLIENT = "client"
SERVER = "server"

_LOOPBACK_ADDRESS = "127.0.0.1"
_NAMESPACES_FOLDER = "/var/run/netns/"  # NETNS_RUN_DIR in the Makefile of iproute2
_END_INTERFACE = "eth0"
_PREFIX_BITS = 24
_COMMAND_SECONDS = 20.0
_UP_SECONDS = 10.0
_CLONE_NEWNET = 0x40000000  # linux/sched.h
_COUNT = "/proc/sys/net/netfilter/nf_conntrack_count"
_DISCARD_PORT = 9


class End(NamedTuple):
    """One end of a path through the router: a namespace, and the pair of interfaces that leads there."""

    namespace: str
    address: str
    mac: str
    router_interface: str
    router_address: str
    router_mac: str


# Addresses of RFC 5737, for documentation: nothing that this machine could otherwise talk to has one. The interface
# towards the server has the name that the scenarios' MASQUERADE rules ask for. One address is enough for the client,
# masqueraded or not: a source port is kept that nothing else uses for the same destination (get_unique_tuple() in
# net/netfilter/nf_nat_core.c).
ENDS = {
    CLIENT: End("lab-client", "198.51.100.2", "02:00:00:00:01:02", "lab-c0", "198.51.100.1", "02:00:00:00:01:01"),
    SERVER: End("lab-server", "203.0.113.2", "02:00:00:00:02:02", "eth0", "203.0.113.1", "02:00:00:00:02:01"),
}

# Either of these, run in a namespace, keeps what passes there out of conntrack.
_NFT_CHAIN = "chain {0} {{ type filter hook {0} priority -300; notrack; }};"
_NOTRACK: Tuple[List[List[str]], ...] = (
    [
        ["iptables-legacy", "--table", "raw", "--append", chain, "--jump", "CT", "--notrack"]
        for chain in ("PREROUTING", "OUTPUT")
    ],
    [["nft", "table ip lab-ends {" + _NFT_CHAIN.format("prerouting") + _NFT_CHAIN.format("output") + "}"]],
)


class TopologyError(Exception):
    """The topology cannot be made or entered; names the command, or the file, and what was said of it."""


def build(name: str) -> Dict[str, Any]:
    """Make the topology; returns what was done, as evidence: commands, addresses, and the sysctls of each namespace.

    Raises TopologyError, after taking away again what had been made by then; ValueError for an unknown name.
    """
    if _is_loopback(name):
        return {"topology": name}
    _require_free_names()
    commands = _build_commands()
    try:
        for argv in commands:
            _run(argv)
        for end in ENDS.values():
            _await_up(end)
        sysctls = {"router": set_existing({"net.ipv4.ip_forward": 1})}
        _require_all_set(sysctls["router"])
        for role in ENDS:
            with inside(NETNS, role):
                sysctls[role] = set_existing(_limits())
    except BaseException:
        remove(name)
        raise
    return {"topology": name, "commands": commands, "addresses": _addresses(), "sysctls": sysctls}


def remove(name: str) -> None:
    """Take away the namespaces and interfaces that `build` made. What it did not find is no error; ip_forward stays."""
    if _is_loopback(name):
        return
    for end in ENDS.values():
        # by the namespace's end of the pair: `eth0` here may be somebody else's
        run_command(["ip", "-n", end.namespace, "link", "delete", "dev", _END_INTERFACE], _COMMAND_SECONDS)
        run_command(["ip", "netns", "delete", end.namespace], _COMMAND_SECONDS)


def enter(name: str, role: str) -> None:
    """Move this process (this thread of it) to where "client" or "server" stands; raises TopologyError."""
    end = ENDS[role]
    if _is_loopback(name):
        return
    path = _NAMESPACES_FOLDER + end.namespace
    try:
        _set_namespace(path)
    except OSError as error:
        raise TopologyError("{} cannot be entered: {}".format(path, error_name(error)))


@contextmanager
def in_namespace(namespace: str) -> Iterator[None]:
    """Within a named namespace for a while; what is done there is done by this thread. Raises OSError."""
    home = os.open("/proc/self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
    try:
        _set_namespace(_NAMESPACES_FOLDER + namespace)
        try:
            yield
        finally:
            _set_namespace_of(home)
    finally:
        os.close(home)


def server_address(name: str) -> str:
    """The address that the server listens on and the client connects to."""
    return _LOOPBACK_ADDRESS if _is_loopback(name) else ENDS[SERVER].address


def untrack_ends(name: str) -> Dict[str, Any]:
    """Keep conntrack out of the namespaces beside the router, where it is active; returns what was done, by role.

    Up to Linux 4.13, and with the module's parameter enable_hooks, every namespace tracks, each in a table of its own
    with the same max: the client's would be full first, and what it drops never gets to the router. To be called when
    the starting state is applied. Where nothing is tracked nothing is changed. Raises TopologyError.
    """
    return {} if _is_loopback(name) else {role: _untrack(role) for role in ENDS}


def _is_loopback(name: str) -> bool:
    if name not in TOPOLOGIES:
        raise ValueError("{} is no topology: {}".format(name, " or ".join(TOPOLOGIES)))
    return name == LOOPBACK


def _require_free_names() -> None:
    """Nothing was made yet when this fails, so that nothing of somebody else's gets removed."""
    interfaces = [interface for _, interface in socket.if_nameindex()]
    for end in ENDS.values():
        if end.router_interface in interfaces:
            raise TopologyError("this machine has a network interface {} already".format(end.router_interface))
        if os.path.exists(_NAMESPACES_FOLDER + end.namespace):
            raise TopologyError("this machine has a network namespace {} already".format(end.namespace))


def _build_commands() -> List[List[str]]:
    commands = [["ip", "netns", "add", end.namespace] for end in ENDS.values()]
    for end in ENDS.values():
        commands.extend(_pair_commands(end))
    return commands


def _pair_commands(end: End) -> List[List[str]]:
    """One pair of interfaces, with addresses, up.

    The neighbours are permanent: of the packets that wait for an answer to ARP only so many are kept (unres_qlen in
    ip-sysctl.rst), and a load begins with more.
    """
    here, there = ["ip"], ["ip", "-n", end.namespace]
    peer = ["peer", "name", _END_INTERFACE, "address", end.mac, "netns", end.namespace]
    return [
        [*here, "link", "add", end.router_interface, "address", end.router_mac, "type", "veth", *peer],
        [*here, "address", "add", _with_prefix(end.router_address), "dev", end.router_interface],
        [*there, "address", "add", _with_prefix(end.address), "dev", _END_INTERFACE],
        [*there, "link", "set", "dev", "lo", "up"],
        [*there, "link", "set", "dev", _END_INTERFACE, "up"],
        [*here, "link", "set", "dev", end.router_interface, "up"],
        [*here, *_neighbour(end.address, end.mac, end.router_interface)],
        [*there, *_neighbour(end.router_address, end.router_mac, _END_INTERFACE)],
        [*there, "route", "add", "default", "via", end.router_address],
    ]


def _neighbour(address: str, mac: str, interface: str) -> List[str]:
    return ["neighbour", "add", address, "lladdr", mac, "dev", interface, "nud", "permanent"]


def _with_prefix(address: str) -> str:
    return "{}/{}".format(address, _PREFIX_BITS)


def _addresses() -> Dict[str, str]:
    addresses = {role: end.address for role, end in ENDS.items()}
    return dict(addresses, **{"router_to_" + role: end.router_address for role, end in ENDS.items()})


def _run(argv: List[str]) -> None:
    outcome = run_command(argv, _COMMAND_SECONDS)
    if outcome["exit_status"] != 0:
        raise TopologyError(_failure(outcome))


def _await_up(end: End) -> None:
    """The interface that was first of its pair to be set up gets to know of the other one a moment later; until then it
    drops what is sent (dev_activate() in net/sched/sch_generic.c).
    """
    argv = ["ip", "-n", end.namespace, "link", "show", "dev", _END_INTERFACE]
    deadline = time.monotonic() + _UP_SECONDS
    while True:
        outcome = run_command(argv, _COMMAND_SECONDS)
        if "state UP" in outcome["stdout"]:
            return
        if time.monotonic() > deadline:
            raise TopologyError("{} is not up: {}".format(_END_INTERFACE, _failure(outcome)))
        time.sleep(0.02)


def _failure(outcome: Dict[str, Any]) -> str:
    said = (outcome["stderr"].strip() or outcome["stdout"].strip() or "nothing").replace("\n", "; ")
    return "`{}` ended with {}: {}".format(" ".join(outcome["argv"]), outcome["exit_status"], said)


def _limits() -> Dict[str, Any]:
    """The limits for a new namespace, which begins with the kernel's defaults. Some exist only once for all."""
    return {name: value for name, value in LIMITS.items() if name.startswith("net.")}


def _require_all_set(outcome: Dict[str, Dict[str, Any]]) -> None:
    for name, written in outcome.items():
        if written["after"] != str(written["wanted"]):
            raise TopologyError("{} cannot be set: {}".format(name, written["error"]))


@contextmanager
def inside(name: str, role: str) -> Iterator[None]:
    """Where "client" or "server" stands, for a while; what is done there is done by this thread."""
    if _is_loopback(name):
        yield
        return
    home = os.open("/proc/self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
    try:
        enter(name, role)
        try:
            yield
        finally:
            _set_namespace_of(home)
    finally:
        os.close(home)


def _set_namespace(path: str) -> None:
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        _set_namespace_of(fd)
    finally:
        os.close(fd)


def _set_namespace_of(fd: int) -> None:
    """setns(2), which os has only since Python 3.12; raises OSError."""
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.setns(fd, _CLONE_NEWNET) != 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))


def _untrack(role: str) -> Dict[str, Any]:
    with inside(NETNS, role):
        if not _tracks():
            return {"tracked": False, "commands": []}
        outcomes: List[Dict[str, Any]] = []
        for alternative in _NOTRACK:
            outcomes.extend(run_command(argv, _COMMAND_SECONDS) for argv in alternative)
            if not _tracks():
                return {"tracked": True, "commands": [outcome["argv"] for outcome in outcomes]}
    raise TopologyError("{} still tracks: {}".format(ENDS[role].namespace, "; ".join(map(_failure, outcomes))))


def _tracks() -> bool:
    """Whether a datagram over this namespace's loopback makes an entry in its table."""
    before, _, _ = read_text(_COUNT)
    if before is None:
        return False
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.sendto(b"", (_LOOPBACK_ADDRESS, _DISCARD_PORT))
    return read_text(_COUNT)[0] != before
