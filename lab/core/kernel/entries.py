"""The rows of the table (/proc/net/nf_conntrack, `conntrack -L`)."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from lab.core.kernel.lines import UNSIGNED, numbered, whole_number


@dataclass(frozen=True)
class Flow:
    """One direction of an entry. Ports are None where the protocol has none."""

    source: str
    destination: str
    source_port: int | None = None
    destination_port: int | None = None


@dataclass(frozen=True)
class Entry:
    """A row of the table."""

    family: str | None  # "ipv4" or "ipv6"; None where the text does not say (`conntrack -L`, /proc/net/ip_conntrack)
    protocol: str
    protocol_number: int
    expires_seconds: int | None  # None for an offloaded entry, whose timer stands still
    state: str | None  # of TCP, DCCP, SCTP: "ESTABLISHED"
    original: Flow
    reply: Flow
    assured: bool  # not to be evicted early
    unreplied: bool
    offloaded: bool
    mark: int | None


_FLAGS: Final = frozenset({"[ASSURED]", "[UNREPLIED]", "[OFFLOAD]", "[HW_OFFLOAD]"})
_STATE: Final = re.compile(r"[A-Z][A-Z0-9_]*")
_FLOW_KEYS: Final = ("src", "dst", "sport", "dport")


def entries(text: str) -> tuple[Entry, ...]:
    """Read /proc/net/nf_conntrack, or what `conntrack -L` prints. Raises `ValueError` for a row it cannot read."""
    return tuple(_entry(number, line) for number, line in numbered(text))


def _entry(number: int, line: str) -> Entry:
    where = f"nf_conntrack line {number}"
    fields = line.split()
    family = fields[0] if fields[0] in ("ipv4", "ipv6") else None
    head = fields[2:] if family else fields  # "ipv4 2 tcp 6 ...": name and number of both layers
    if len(head) < 2:
        raise ValueError(f"{where}: cut after {len(fields)} fields")
    values, flags, words = _sorted_fields(head[2:])
    return Entry(
        family=family,
        protocol=head[0],
        protocol_number=whole_number(head[1], f"{where}: protocol number"),
        expires_seconds=next((int(word) for word in words if UNSIGNED.fullmatch(word)), None),
        state=next((word for word in words if _STATE.fullmatch(word)), None),
        original=_flow(where, values, 0),
        reply=_flow(where, values, 1),
        assured="[ASSURED]" in flags,
        unreplied="[UNREPLIED]" in flags,
        offloaded=bool(flags & {"[OFFLOAD]", "[HW_OFFLOAD]"}),
        mark=whole_number(values["mark"][0], f"{where}: mark") if "mark" in values else None,
    )


def _sorted_fields(fields: list[str]) -> tuple[dict[str, list[str]], set[str], list[str]]:
    """The row's `key=value` fields, flags and bare words; a key of both directions has two values."""
    values: dict[str, list[str]] = {}
    flags: set[str] = set()
    words: list[str] = []
    for field in fields:
        key, equals, value = field.partition("=")
        if equals:
            values.setdefault(key, []).append(value)
        elif field in _FLAGS:
            flags.add(field)
        else:
            words.append(field)
    return values, flags, words


def _flow(where: str, values: Mapping[str, list[str]], direction: int) -> Flow:
    source, destination, source_port, destination_port = (
        values[key][direction] if len(values.get(key, ())) > direction else None for key in _FLOW_KEYS
    )
    if source is None or destination is None:
        raise ValueError(f"{where}: no addresses of the {('original', 'reply')[direction]} direction")
    return Flow(
        source,
        destination,
        None if source_port is None else whole_number(source_port, f"{where}: sport"),
        None if destination_port is None else whole_number(destination_port, f"{where}: dport"),
    )
