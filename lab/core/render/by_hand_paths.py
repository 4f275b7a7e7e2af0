"""The paths of a load without the lab: the commands that make them, and where client and server stand."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from lab.core.plan import CellPlan
from lab.core.scenario import DEFAULT_PATH, PATHS

# As lab/guest/topology.py makes them.
_LINKS: Mapping[str, str] = {"client": "lab-c0", "server": "eth0"}
_BRIDGED: Mapping[str, str] = {"client": "lab-c0", "server": "lab-s0"}
_IPV4: Mapping[str, tuple[str, str]] = {
    "client": ("198.51.100.2", "198.51.100.1"),
    "server": ("203.0.113.2", "203.0.113.1"),
}
_IPV6: Mapping[str, tuple[str, str]] = {
    "client": ("2001:db8:c::2", "2001:db8:c::1"),
    "server": ("2001:db8:5::2", "2001:db8:5::1"),
}
_ON_BRIDGE: Mapping[str, Mapping[str, str]] = {
    "ipv4": {"client": "192.0.2.2", "server": "192.0.2.3"},
    "ipv6": {"client": "2001:db8:b::2", "server": "2001:db8:b::3"},
}
_FORWARDING: Mapping[str, str] = {"ipv4": "net.ipv4.ip_forward", "ipv6": "net.ipv6.conf.all.forwarding"}


@dataclass(frozen=True)
class Places:
    """Where the ends of a plan's load stand: "" is the machine itself, else the name of a namespace."""

    client: str
    server: str
    connect_to: str
    listen_on: str


def places(plan: CellPlan) -> Places:
    """Where the load's IPv4 ends stand, and their addresses."""
    name = plan.machine.path or DEFAULT_PATH
    ends = PATHS[name].ends
    client, server = (f"lab-{end}" if end in ends else "" for end in ("client", "server"))
    there = {
        "loopback": "127.0.0.1",
        "local": _IPV4["client"][1],
        "bridge": _ON_BRIDGE["ipv4"]["server"],
        "published": _IPV4["client"][1],
    }.get(name, _IPV4["server"][0])
    return Places(client, server, there, _IPV4["server"][0] if name == "published" else there)


def topology(plan: CellPlan) -> str:
    """The commands that make the path; empty where all is on loopback."""
    return "\n".join(_commands(plan))


def _commands(plan: CellPlan) -> Iterator[str]:
    name = plan.machine.path or DEFAULT_PATH
    ends = PATHS[name].ends
    on_bridge = name == "bridge"
    if on_bridge:
        yield "ip link add lab-br0 type bridge && ip link set lab-br0 up"
    for end in ends:
        link = (_BRIDGED if on_bridge else _LINKS)[end]
        yield f"ip netns add lab-{end}"
        yield f"ip link add {link} type veth peer name eth0 netns lab-{end}"
        yield f"ip link set {link} up && ip -n lab-{end} link set eth0 up"
        if on_bridge:
            yield f"ip link set {link} master lab-br0"
        for family in plan.families:
            yield from _address_commands(family, end, "" if on_bridge else link)
    if len(ends) == 2 and not on_bridge:
        yield from (f"sysctl -w {_FORWARDING[family]}=1" for family in plan.families)


def _address_commands(family: str, end: str, link: str) -> Iterator[str]:
    """The addresses of a link; on a bridge, which has no `link` of its own, of the end alone."""
    ip, bits, more = ("ip", 24, "") if family == "ipv4" else ("ip -6", 64, " nodad")
    if not link:
        yield f"{ip} -n lab-{end} address add {_ON_BRIDGE[family][end]}/{bits} dev eth0{more}"
        return
    there, here = (_IPV4 if family == "ipv4" else _IPV6)[end]
    yield f"{ip} address add {here}/{bits} dev {link}{more}"
    yield f"{ip} -n lab-{end} address add {there}/{bits} dev eth0{more}"
    yield f"{ip} -n lab-{end} route add default via {here}"
