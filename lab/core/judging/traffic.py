"""Whether a rule can take packets of the load: by what it says of protocol, addresses, ports, interfaces and flags.

The load has packets of two kinds: those that go to its listeners and those that come back. A rule that fits neither
takes somebody else's. What is not understood of a rule fits both.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final

_NAMES: Final = r"-p|-s|-d|-i|-o|--dport|--sport|--tcp-flags"
_OPTION: Final = re.compile(rf"(?P<not>! )?(?P<name>{_NAMES}) (?P<value>(?<=--tcp-flags )\S+ \S+|\S+)")
_TRANSLATES: Final = re.compile(r"(?:^| )-j (?:SNAT|DNAT|MASQUERADE|REDIRECT|NETMAP)(?: |$)")
_PORT_OPTIONS: Final = ("--dport", "--sport")
_EPHEMERAL: Final = 32768  # the load's packets come from such ports, and answers go there

Network = ipaddress.IPv4Network | ipaddress.IPv6Network
Networks = tuple[Network, ...]
Option = tuple[str, str]  # name and value, in iptables' words


@dataclass(frozen=True)
class Traffic:
    """What the load's packets look like, as far as a rule can tell them."""

    protocols: frozenset[str]
    networks: Networks
    ports: frozenset[int]
    loopback: bool
    families: frozenset[str] = frozenset({"ip"})  # as rulesets call them
    sources: Networks = ()  # where they come from; empty is any of the networks
    destinations: Networks = ()
    connections: Mapping[int, int] = field(default_factory=dict, hash=False)  # to each port; empty where unknown


@dataclass(frozen=True)
class Match:
    """Whether a rule may take packets of the load, and of how many connections; None is any of them."""

    possible: bool
    reach: int | None = None


@dataclass(frozen=True)
class _Way:
    """The load's packets in one direction."""

    sources: Networks
    destinations: Networks
    load_port: str  # the option that names the listeners' port
    flags: tuple[str, ...]  # of the handshake's packets that go this way, of SYN and ACK


def match_of(options: Sequence[Option], traffic: Traffic) -> Match:
    """What a rule with these options can take of the load."""
    here, there = traffic.sources or traffic.networks, traffic.destinations or traffic.networks
    ways = _Way(here, there, "--dport", ("SYN", "ACK")), _Way(there, here, "--sport", ("ACK,SYN", "ACK"))
    fitting = [way for way in ways if all(_fits(name, value, way, traffic) for name, value in options)]
    if not fitting:
        return Match(False)
    reaches = [_reach(options, way, traffic) for way in fitting]
    return Match(True, None if None in reaches else max(reach for reach in reaches if reach is not None))


def traffic_of(load: Mapping[str, Any]) -> Traffic:
    """What a rule can tell of the load's packets; recordings that do not say more were on loopback or of anything."""
    networks = load.get("networks") or ["0.0.0.0/0"]
    families = families_of(load)
    kind, newcomers = load.get("kind", "hold"), load.get("newcomers")
    protocols = {"udp"} if kind == "udp" else {"tcp"}
    listeners, ports = load.get("listeners", []), {int(port) for port in load.get("ports", [])}
    return Traffic(
        protocols=frozenset(protocols | ({"tcp"} if newcomers else set())),
        networks=_networks(networks),
        ports=frozenset(ports | {int(listener[1]) for listener in listeners}),
        loopback=load.get("path") == "loopback" or networks == ["127.0.0.0/8"],
        families=families,
        sources=_networks(load.get("source_networks", [])),
        # what has no listener goes to all of the addresses
        destinations=() if ports else _networks({str(listener[0]) for listener in listeners}),
        connections={} if ports else {int(listener[1]): int(listener[2]) for listener in listeners},
    )


def _networks(texts: Iterable[object]) -> Networks:
    return tuple(ipaddress.ip_network(str(one)) for one in texts)


def families_of(load: Mapping[str, Any]) -> frozenset[str]:
    """The families of a load, as rulesets call them; older recordings were over IPv4."""
    family = load.get("family", "ipv4")
    return frozenset({"ip"} if family == "ipv4" else {"ip6"} if family == "ipv6" else {"ip", "ip6"})


def without_addresses(traffic: Traffic) -> Traffic:
    """The load's packets where rules change their addresses or ports on the way: these say nothing then."""
    return replace(traffic, sources=(), destinations=(), connections={})


def translates(line: str, traffic: Traffic) -> bool:
    """Whether a line of iptables-save is a rule that changes the load's addresses or ports."""
    return bool(_TRANSLATES.search(line)) and match_of(iptables_options(line), traffic).possible


def iptables_options(spec: str) -> tuple[Option, ...]:
    """The options of a rule that are understood; negated ones are not."""
    bare = re.sub(r'"(?:[^"\\]|\\.)*"', '""', spec)
    return tuple((found["name"], found["value"]) for found in _OPTION.finditer(bare) if not found["not"])


def nft_options(expressions: Iterable[Mapping[str, Any]]) -> tuple[Option, ...]:
    """The same of a rule in nft's JSON (libnftables-json(5)): comparisons for equality with a value or a range."""
    matches = (one["match"] for one in expressions if isinstance(one.get("match"), dict))
    return tuple(option for match in matches if match.get("op") == "==" for option in _nft_match(match))


def _nft_match(match: Mapping[str, Any]) -> Iterator[Option]:
    left, right = match.get("left"), match.get("right")
    if not isinstance(left, dict):
        return
    masked = left.get("&")
    if isinstance(masked, list) and len(masked) == 2 and _field(masked[0]) == ("tcp", "flags"):
        yield "--tcp-flags", f"{_flags(masked[1])} {_flags(right)}"
        return
    meta = left.get("meta")
    key = meta.get("key") if isinstance(meta, dict) else None
    if isinstance(right, str) and isinstance(key, str) and key in _META:
        yield _META[key], right
    protocol, name = _field(left)
    if protocol in ("tcp", "udp"):
        yield "-p", protocol
    value = _value(right)
    if value is not None and name in _FIELDS:
        yield _FIELDS[name], value


_META: Final[Mapping[str, str]] = {"l4proto": "-p", "iifname": "-i", "oifname": "-o"}
_FIELDS: Final[Mapping[str, str]] = {"saddr": "-s", "daddr": "-d", "sport": "--sport", "dport": "--dport"}


def _field(left: object) -> tuple[str, str]:
    payload = left.get("payload") if isinstance(left, dict) else None
    if not isinstance(payload, dict):
        return "", ""
    return str(payload.get("protocol")), str(payload.get("field"))


def _flags(value: object) -> str:
    names = value if isinstance(value, list) else [value]
    return ",".join(str(name).upper() for name in names)


def _value(right: object) -> str | None:
    """One value, a prefix or a range; None for anything else."""
    if isinstance(right, int | str):
        return str(right)
    if not isinstance(right, dict):
        return None
    prefix, bounds = right.get("prefix"), right.get("range")
    if isinstance(prefix, dict):
        return f"{prefix.get('addr')}/{prefix.get('len')}"
    return ":".join(map(str, bounds)) if isinstance(bounds, list) and len(bounds) == 2 else None


def _fits(option: str, value: str, way: _Way, traffic: Traffic) -> bool:
    if option == "-p":
        return value in traffic.protocols or value == "all"
    if option in ("-s", "-d"):
        return _overlaps(value, way.sources if option == "-s" else way.destinations)
    if option in ("-i", "-o"):
        return not traffic.loopback or value in ("lo", "+", "l+", "lo+")
    if option == "--tcp-flags":
        return _has_flags(value, way)
    bounds = _ports(value)
    if bounds is None or not traffic.ports:
        return True
    if option == way.load_port:
        return any(bounds[0] <= port <= bounds[1] for port in traffic.ports)
    return bounds[1] >= _EPHEMERAL


def _overlaps(value: str, networks: Networks) -> bool:
    try:
        network = ipaddress.ip_network(value, strict=False)
    except ValueError:
        return True
    return any(_overlap(network, one) for one in networks)


def _overlap(one: Network, other: Network) -> bool:
    return one.version == other.version and int(one[0]) <= int(other[-1]) and int(other[0]) <= int(one[-1])


def _has_flags(value: str, way: _Way) -> bool:
    """Of SYN and ACK only: the other flags come with either."""
    mask, _, wanted = value.partition(" ")
    looked_at = {"SYN", "ACK"} & set(mask.split(","))
    return any(looked_at & set(sent.split(",")) == looked_at & set(wanted.split(",")) for sent in way.flags)


def _ports(value: str) -> tuple[int, int] | None:
    first, _, last = value.partition(":")
    return (int(first), int(last or first)) if first.isdigit() and (last or first).isdigit() else None


def _reach(options: Sequence[Option], way: _Way, traffic: Traffic) -> int | None:
    """How many connections have the ports that the options name; None where they name none."""
    named = [bounds for name, value in options if name == way.load_port and (bounds := _ports(value)) is not None]
    if not named or not traffic.connections:
        return None
    return sum(count for port, count in traffic.connections.items() if all(low <= port <= high for low, high in named))
