"""A load in a sentence of a scenario's page."""

from __future__ import annotations

from collections.abc import Mapping

from lab.core.scenario import DEFAULT_PATH, LoadSpec

_PATHS: Mapping[str, str] = {
    "loopback": "over loopback",
    "local": "from a network namespace to the machine",
    "outbound": "from the machine to a network namespace",
    "forward": "through the machine as a router, between two network namespaces",
    "bridge": "over a bridge of the machine, between two network namespaces",
    "published": "from a network namespace to the machine's address, which leads to another namespace",
}
_FAMILIES: Mapping[str | None, str] = {
    None: "",
    "ipv4": "",
    "ipv6": ", over IPv6",
    "both": ", half of them over IPv6",
}
_PACKETS: Mapping[str, str] = {"half-open": "SYNs", "udp": "UDP datagrams"}
_CLOSED: Mapping[str, str] = {
    "fin": "closed with FIN",
    "reset": "closed with RST",
    "vanish": "dropped on both sides without a packet",
    "half": "closed by the client alone",
}


def load_in_words(load: LoadSpec, path: str) -> str:
    """What is opened or sent, over which path, and how it ends."""
    count = f"{load.connections:,}"
    where = f"{_PATHS[path]}{_FAMILIES[load.family]}"
    rate = f", {load.rate_per_second:,} per second" if load.rate_per_second else ""
    newcomers = f"; then {load.newcomers:,} TCP connections are opened and held" if load.newcomers else ""
    if load.kind == "hold":
        data = "; at the end each carries a byte there and back" if load.data else ""
        return f"{count} TCP connections are opened and held {where}{rate}{newcomers}{data}"
    if load.kind == "churn":
        closed = _CLOSED[load.close or "fin"]
        life = f"open for {load.hold_seconds:g} s, then {closed}" if load.hold_seconds else f"{closed} at once"
        return f"{count} TCP connections are opened {where}{rate}, each {life}"
    packets = _PACKETS[load.kind]
    if load.answered:
        return f"{count} {packets} are sent {where}{rate}, answered, and followed by one more{newcomers}"
    if path == DEFAULT_PATH and load.family is None:
        return f"{count} {packets} to as many addresses of 127.0.0.0/8 that answer nothing{rate}{newcomers}"
    return f"{count} {packets} are sent {where}, each from a port of its own{rate}; nothing answers{newcomers}"
