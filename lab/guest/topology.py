"""Making the path of a load: namespaces for its remote ends, the links to them, addresses, and what forwards.

What this machine forwards passes PRE_ROUTING and POST_ROUTING; a packet that is dropped there is lost without a word to
its sender. Neither namespaces nor veth need a module of netfilter (veth.ko depends on nothing: modules.dep, 5.10 to
7.2); nor does a bridge, whose frames pass the hooks of ip only where br_netfilter is loaded and its sysctls say so.
"""

import os
import socket
import time
from typing import Any, Dict, List, Sequence

from lab.guest.apply import run_command
from lab.guest.machine import LIMITS, set_existing
from lab.guest.namespaces import NAMESPACES_FOLDER, TopologyError, inside
from lab.guest.paths import END_INTERFACE, IPV4, IPV6, LOOPBACK_SOURCES, Addresses, Link, Path, path_of

_COMMAND_SECONDS = 20.0
_UP_SECONDS = 10.0
_IP = {IPV4: ["ip"], IPV6: ["ip", "-6"]}
_FORWARDING = {IPV4: "net.ipv4.ip_forward", IPV6: "net.ipv6.conf.all.forwarding"}


def build(name: str, families: Sequence[str] = (IPV4,)) -> Dict[str, Any]:
    """Make a path; returns what was done, as evidence: commands, addresses, and the sysctls of each namespace.

    Raises TopologyError, after taking away again what had been made by then; ValueError for an unknown name.
    """
    path = path_of(name)
    _require_free_names(path)
    commands = _build_commands(path, families)
    if not commands:
        return {"path": name}
    try:
        for argv in commands:
            _run(argv)
        for link in path.links.values():
            _await_up(link)
        forwarding = {_FORWARDING[family]: 1 for family in families if path.forwards}
        sysctls = {"machine": set_existing(forwarding)}
        _require_all_set(sysctls["machine"])
        for role in path.links:
            with inside(name, role):
                sysctls[role] = set_existing(_limits())
    except BaseException:
        remove(name, families)
        raise
    return {"path": name, "commands": commands, "addresses": _addresses(path, families), "sysctls": sysctls}


def remove(name: str, families: Sequence[str] = (IPV4,)) -> None:
    """Take away what `build` made. What it did not find is no error; forwarding stays."""
    path = path_of(name)
    if not path.links and IPV6 in families:
        run_command(_loopback_route("delete"), _COMMAND_SECONDS)
    for link in path.links.values():
        # by the namespace's end of the pair: `eth0` here may be somebody else's
        run_command(["ip", "-n", link.namespace, "link", "delete", "dev", END_INTERFACE], _COMMAND_SECONDS)
        run_command(["ip", "netns", "delete", link.namespace], _COMMAND_SECONDS)
    if path.bridge:
        run_command(["ip", "link", "delete", "dev", path.bridge], _COMMAND_SECONDS)


def _require_free_names(path: Path) -> None:
    """Nothing was made yet when this fails, so that nothing of somebody else's gets removed."""
    interfaces = [interface for _, interface in socket.if_nameindex()]
    for name in [link.interface for link in path.links.values()] + [path.bridge]:
        if name in interfaces:
            raise TopologyError("this machine has a network interface {} already".format(name))
    for link in path.links.values():
        if os.path.exists(NAMESPACES_FOLDER + link.namespace):
            raise TopologyError("this machine has a network namespace {} already".format(link.namespace))


def _build_commands(path: Path, families: Sequence[str]) -> List[List[str]]:
    if not path.links:
        return [_loopback_route("add")] if IPV6 in families else []
    commands = [["ip", "netns", "add", link.namespace] for link in path.links.values()]
    if path.bridge:
        commands += [
            ["ip", "link", "add", path.bridge, "type", "bridge"],
            ["ip", "link", "set", "dev", path.bridge, "up"],
        ]
    for role, link in path.links.items():
        commands += _pair_commands(link)
        if path.bridge:
            commands.append(["ip", "link", "set", "dev", link.interface, "master", path.bridge])
        other = next((one for name, one in path.links.items() if name != role), None)
        for family in families:
            commands += _address_commands(link, family, other if path.bridge else None)
    return commands


def _loopback_route(what: str) -> List[str]:
    """All addresses of the load's prefix are local on loopback, as all of 127.0.0.0/8 are."""
    return [*_IP[IPV6], "route", what, "local", LOOPBACK_SOURCES[IPV6], "dev", "lo"]


def _pair_commands(link: Link) -> List[List[str]]:
    """One pair of interfaces, up."""
    there = ["ip", "-n", link.namespace]
    peer = ["peer", "name", END_INTERFACE, "address", link.mac, "netns", link.namespace]
    return [
        ["ip", "link", "add", link.interface, "address", link.here_mac, "type", "veth", *peer],
        [*there, "link", "set", "dev", "lo", "up"],
        [*there, "link", "set", "dev", END_INTERFACE, "up"],
        ["ip", "link", "set", "dev", link.interface, "up"],
    ]


def _address_commands(link: Link, family: str, neighbour: Any) -> List[List[str]]:
    """The addresses of a link; on a bridge it has no other side here, but a neighbour.

    The neighbours are permanent: of the packets that wait for an answer to ARP only so many are kept (unres_qlen in
    ip-sysctl.rst), and a load begins with more.
    """
    here, there, own = _IP[family], [*_IP[family], "-n", link.namespace], link.addresses[family]
    at_end = ["dev", END_INTERFACE]
    commands = [[*there, "address", "add", _with_prefix(own.end, own), *at_end, *_at_once(family)]]
    if neighbour is not None:
        return [*commands, [*there, *_neighbour(neighbour.addresses[family].end, neighbour.mac), *at_end]]
    return [
        [*here, "address", "add", _with_prefix(own.here, own), "dev", link.interface, *_at_once(family)],
        *commands,
        [*here, *_neighbour(own.end, link.mac), "dev", link.interface],
        [*there, *_neighbour(own.here, link.here_mac), *at_end],
        [*there, "route", "add", "default", "via", own.here],
    ]


def _at_once(family: str) -> List[str]:
    """An IPv6 address is usable only when nobody else was found to have it, which takes a second."""
    return ["nodad"] if family == IPV6 else []


def _neighbour(address: str, mac: str) -> List[str]:
    return ["neighbour", "replace", address, "lladdr", mac, "nud", "permanent"]


def _with_prefix(address: str, addresses: Addresses) -> str:
    return "{}/{}".format(address, addresses.bits)


def _addresses(path: Path, families: Sequence[str]) -> Dict[str, Dict[str, str]]:
    found: Dict[str, Dict[str, str]] = {}
    for family in families:
        found[family] = {role: link.addresses[family].end for role, link in path.links.items()}
        here = {"machine_to_" + role: link.addresses[family].here for role, link in path.links.items()}
        found[family].update({name: address for name, address in here.items() if address})
    return found


def _run(argv: List[str]) -> None:
    outcome = run_command(argv, _COMMAND_SECONDS)
    if outcome["exit_status"] != 0:
        raise TopologyError(failure(outcome))


def _await_up(link: Link) -> None:
    """The interface that was first of its pair to be set up gets to know of the other one a moment later; until then it
    drops what is sent (dev_activate() in net/sched/sch_generic.c).
    """
    argv = ["ip", "-n", link.namespace, "link", "show", "dev", END_INTERFACE]
    deadline = time.monotonic() + _UP_SECONDS
    while True:
        outcome = run_command(argv, _COMMAND_SECONDS)
        if "state UP" in outcome["stdout"]:
            return
        if time.monotonic() > deadline:
            raise TopologyError("{} is not up: {}".format(END_INTERFACE, failure(outcome)))
        time.sleep(0.02)


def failure(outcome: Dict[str, Any]) -> str:
    said = (outcome["stderr"].strip() or outcome["stdout"].strip() or "nothing").replace("\n", "; ")
    return "`{}` ended with {}: {}".format(" ".join(outcome["argv"]), outcome["exit_status"], said)


def _limits() -> Dict[str, Any]:
    """The limits for a new namespace, which begins with the kernel's defaults. Some exist only once for all."""
    return {name: value for name, value in LIMITS.items() if name.startswith("net.")}


def _require_all_set(outcome: Dict[str, Dict[str, Any]]) -> None:
    for name, written in outcome.items():
        if written["after"] != str(written["wanted"]):
            raise TopologyError("{} cannot be set: {}".format(name, written["error"]))
