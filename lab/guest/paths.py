"""The paths that a load can take, as data: where its two ends stand, the links that lead there, and all addresses.

    loopback    both ends in this machine, over its loopback
    local       a remote client, the server in this machine      lab-client eth0 --- lab-c0 here
    outbound    the client in this machine, a remote server      here eth0 --- eth0 lab-server
    forward     both remote, this machine is the router          lab-client --- lab-c0 here eth0 --- lab-server
    bridge      both remote, on a bridge of this machine         lab-client --- lab-c0 [lab-br0] lab-s0 --- lab-server
    published   as forward, but the client speaks to this machine's own address, which a rule of the state leads on

Remote is a network namespace of its own. Addresses are those of documentation (RFC 5737, RFC 3849): nothing that this
machine could otherwise talk to has one, so that an entry with one of them is the load's.
"""

import re
from typing import Dict, List, NamedTuple, Tuple

LOOPBACK, LOCAL, OUTBOUND = "loopback", "local", "outbound"
FORWARD, BRIDGE, PUBLISHED = "forward", "bridge", "published"
CLIENT, SERVER = "client", "server"
IPV4, IPV6 = FAMILIES = ("ipv4", "ipv6")
BOTH = "both"

# Where the connections of a load over loopback come from: nothing else uses these.
LOOPBACK_PREFIXES = {IPV4: "127.77.", IPV6: "2001:db8:7f::"}
LOOPBACK_SOURCES = {IPV4: "127.77.0.0/16", IPV6: "2001:db8:7f::/64"}
_LOOPBACK_NETWORKS = {IPV4: ["127.0.0.0/8"], IPV6: ["::1/128", "2001:db8:7f::/64"]}
LOOPBACK_ADDRESSES = {IPV4: "127.0.0.1", IPV6: "::1"}
ONE_ADDRESS = {IPV4: "32", IPV6: "128"}  # bits
END_INTERFACE = "eth0"


class Addresses(NamedTuple):
    """The addresses of a link: of the namespace's side and of this machine's, which a bridge's port has none of."""

    end: str
    here: str
    bits: int


class Link(NamedTuple):
    """A pair of interfaces, END_INTERFACE in a namespace and one in this machine."""

    namespace: str
    mac: str
    interface: str
    here_mac: str
    addresses: Dict[str, Addresses]  # by family


class Path(NamedTuple):
    """A path. A role without a link stands in this machine itself."""

    links: Dict[str, Link]  # by role
    forwards: bool = False
    bridge: str = ""  # of this machine; the links are its ports
    published: bool = False  # the client speaks to this machine's address


# The interface towards the server has the name that the scenarios' MASQUERADE rules ask for. One address is enough for
# the client, masqueraded or not: a source port is kept that nothing else uses for the same destination
# (get_unique_tuple() in net/netfilter/nf_nat_core.c).
_TO_CLIENT = Link(
    "lab-client",
    "02:00:00:00:01:02",
    "lab-c0",
    "02:00:00:00:01:01",
    {
        IPV4: Addresses("198.51.100.2", "198.51.100.1", 24),
        IPV6: Addresses("2001:db8:c::2", "2001:db8:c::1", 64),
    },
)
_TO_SERVER = Link(
    "lab-server",
    "02:00:00:00:02:02",
    "eth0",
    "02:00:00:00:02:01",
    {
        IPV4: Addresses("203.0.113.2", "203.0.113.1", 24),
        IPV6: Addresses("2001:db8:5::2", "2001:db8:5::1", 64),
    },
)
_ON_BRIDGE = {
    CLIENT: _TO_CLIENT._replace(
        addresses={IPV4: Addresses("192.0.2.2", "", 24), IPV6: Addresses("2001:db8:b::2", "", 64)}
    ),
    SERVER: _TO_SERVER._replace(
        interface="lab-s0",
        addresses={IPV4: Addresses("192.0.2.3", "", 24), IPV6: Addresses("2001:db8:b::3", "", 64)},
    ),
}

PATHS: Dict[str, Path] = {
    LOOPBACK: Path({}),
    LOCAL: Path({CLIENT: _TO_CLIENT}),
    OUTBOUND: Path({SERVER: _TO_SERVER}),
    FORWARD: Path({CLIENT: _TO_CLIENT, SERVER: _TO_SERVER}, forwards=True),
    BRIDGE: Path(_ON_BRIDGE, bridge="lab-br0"),
    PUBLISHED: Path({CLIENT: _TO_CLIENT, SERVER: _TO_SERVER}, forwards=True, published=True),
}


def path_of(name: str) -> Path:
    """The path of that name; raises ValueError for an unknown one."""
    if name not in PATHS:
        raise ValueError("{} is no path: {}".format(name, ", ".join(PATHS)))
    return PATHS[name]


def families_of(family: str) -> Tuple[str, ...]:
    """The families that a load's `family` means."""
    return FAMILIES if family == BOTH else (family,)


def connect_address(name: str, family: str) -> str:
    """What the client connects to."""
    path = path_of(name)
    if not path.links:
        return LOOPBACK_ADDRESSES[family]
    if path.published or SERVER not in path.links:
        return path.links[CLIENT].addresses[family].here
    return path.links[SERVER].addresses[family].end


def listen_address(name: str, family: str) -> str:
    """What the server listens on: what the client connects to, but where a rule leads on."""
    path = path_of(name)
    return path.links[SERVER].addresses[family].end if path.published else connect_address(name, family)


def client_address(name: str, family: str) -> str:
    """The one address that the load's connections come from; over loopback they have many."""
    path = path_of(name)
    if CLIENT in path.links:
        return path.links[CLIENT].addresses[family].end
    return path.links[SERVER].addresses[family].here


def source_pattern(name: str, family: str) -> str:
    """A regular expression of the addresses that the load's connections come from, as the table's rows have them."""
    if not path_of(name).links:
        return r"127\.77\.\d+\.\d+" if family == IPV4 else re.escape(full_ipv6("2001:db8:7f::")[:20]) + r"[0-9a-f:]+"
    address = client_address(name, family)
    return re.escape(address if family == IPV4 else full_ipv6(address))


def source_networks(name: str, family: str) -> List[str]:
    """Where the load's connections come from, as `source_pattern` has it."""
    if not path_of(name).links:
        return [LOOPBACK_SOURCES[family]]
    return ["{}/{}".format(client_address(name, family), ONE_ADDRESS[family])]


def networks(name: str, family: str) -> List[str]:
    """Where the load's packets come from and go to: a rule about other addresses does not concern it."""
    if not path_of(name).links:
        return list(_LOOPBACK_NETWORKS[family])
    found = (client_address(name, family), connect_address(name, family), listen_address(name, family))
    return ["{}/{}".format(address, ONE_ADDRESS[family]) for address in dict.fromkeys(found)]


def own_addresses(name: str, family: str) -> Tuple[str, ...]:
    """What the addresses begin with that the load's connections come from, as its listeners see them."""
    path = path_of(name)
    if not path.links:
        return (LOOPBACK_PREFIXES[family],)
    # this machine's where it masquerades; the last where both sides stand in one namespace
    here = [link.addresses[family].here for link in path.links.values() if link.addresses[family].here]
    return (client_address(name, family), *here, LOOPBACK_ADDRESSES[family])


def full_ipv6(address: str) -> str:
    """An IPv6 address in the kernel's long form (%pI6), as /proc/net/nf_conntrack has it; raises ValueError."""
    head, double, tail = address.partition("::")
    first, last = (text.split(":") if text else [] for text in (head, tail))
    groups = first + ["0"] * (8 - len(first) - len(last) if double else 0) + last
    if len(groups) != 8:
        raise ValueError("{} is no IPv6 address".format(address))
    return ":".join("{:04x}".format(int(group, 16)) for group in groups)
