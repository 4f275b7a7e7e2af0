"""What fills the table: its rows counted by protocol, state and port, and how fast they come."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass

from lab.core.kernel.conntrack import Entry, entries

MOST_ROWS = 1_000_000
MOST_SHOWN = 10
NEW_SECONDS = 10  # rows whose timer has run for less than this are new
# States whose timer is not set again, so that it says when the row came, and the sysctl of its full length. A row of
# UDP is here while it has no answer.
_TIMERS = {
    ("tcp", "TIME_WAIT"): "tcp_timeout_time_wait",
    ("tcp", "SYN_SENT"): "tcp_timeout_syn_sent",
    ("tcp", "CLOSE"): "tcp_timeout_close",
    ("udp", "UNREPLIED"): "udp_timeout",
}
# Each packet sets these again.
_RENEWED = {("tcp", "ESTABLISHED"): "tcp_timeout_established"}
_NEXT_TO_ALL = 0.9
_ZONE = re.compile(r" zone(?:-orig|-reply)?=(\d{1,5})\b")
_HIDDEN = "-"  # in the place of an address that was not recorded


@dataclass(frozen=True)
class Inflow:
    """Rows of one state, how many of them come in a second, and how many that makes with the timeout."""

    protocol: str
    state: str
    per_second: float
    timeout_seconds: int

    @property
    def steady(self) -> int:
        """How many there are once as many go as come."""
        return round(self.per_second * self.timeout_seconds)


@dataclass(frozen=True)
class Contents:
    """The rows of a table."""

    rows: int
    states: tuple[tuple[str, str, int], ...]  # protocol, state, rows; the most first
    ports: tuple[tuple[str, int, int], ...]  # protocol, destination port of the first direction, rows
    sources: tuple[tuple[str, int], ...]  # empty where addresses were not recorded
    assured: int  # never evicted early
    unreplied: int
    offloaded: int
    zones: Mapping[int, int]  # without zone 0
    inflows: tuple[Inflow, ...]
    unreadable: int = 0
    cut: bool = False
    lasting_seconds: int | None = None  # how long next to all rows stay at most; None where that is not known
    recent: int = 0  # rows that a packet made or renewed within NEW_SECONDS before they were read


def contents_of(text: str, timeouts_seconds: Mapping[str, int], cut: bool = False) -> Contents:
    """Count the rows of /proc/net/nf_conntrack or `conntrack -L`; lines that are no row are counted apart."""
    states, fresh, renewed = Counter[tuple[str, str]](), Counter[tuple[str, str]](), Counter[tuple[str, str]]()
    ports, sources = Counter[tuple[str, int]](), Counter[str]()
    zones, flags = Counter[int](), Counter[str]()
    lines = text.split("\n", MOST_ROWS)
    for line in lines[:MOST_ROWS]:
        if not line.strip() or line.startswith("conntrack v"):
            continue
        try:
            (entry,) = entries(line)
        except ValueError:
            flags["unreadable"] += 1
            continue
        kind = (entry.protocol, _state(entry))
        states[kind] += 1
        flags.update({"assured": entry.assured, "unreplied": entry.unreplied, "offloaded": entry.offloaded})
        if entry.original.destination_port is not None:
            ports[entry.protocol, entry.original.destination_port] += 1
        if entry.original.source != _HIDDEN:
            sources[entry.original.source] += 1
        zones.update(number for text in _ZONE.findall(line) if (number := int(text)))
        fresh[kind] += _is_new(entry, timeouts_seconds.get(_TIMERS.get(kind, "")))
        renewed[kind] += _is_new(entry, timeouts_seconds.get(_RENEWED.get(kind, "")))
    return Contents(
        rows=sum(states.values()),
        states=tuple((*kind, count) for kind, count in states.most_common(MOST_SHOWN)),
        ports=tuple((*port, count) for port, count in ports.most_common(MOST_SHOWN)),
        sources=tuple(sources.most_common(MOST_SHOWN)),
        assured=flags["assured"],
        unreplied=flags["unreplied"],
        offloaded=flags["offloaded"],
        zones=dict(zones.most_common(MOST_SHOWN)),
        inflows=_inflows(fresh, timeouts_seconds),
        unreadable=flags["unreadable"],
        cut=cut or len(lines) > MOST_ROWS,
        lasting_seconds=_lasting(states, timeouts_seconds),
        recent=fresh.total() + renewed.total(),
    )


def _inflows(fresh: Counter[tuple[str, str]], timeouts_seconds: Mapping[str, int]) -> tuple[Inflow, ...]:
    return tuple(
        Inflow(*kind, count / NEW_SECONDS, timeouts_seconds[_TIMERS[kind]])
        for kind, count in fresh.most_common()
        if count
    )


def _lasting(states: Mapping[tuple[str, str], int], timeouts_seconds: Mapping[str, int]) -> int | None:
    known = {kind: timeouts_seconds[name] for kind in states if (name := _TIMERS.get(kind, "")) in timeouts_seconds}
    rows = sum(states[kind] for kind in known)
    return max(known.values()) if known and rows >= _NEXT_TO_ALL * sum(states.values()) else None


def _is_new(entry: Entry, timeout_seconds: int | None) -> bool:
    if timeout_seconds is None or entry.expires_seconds is None:
        return False
    # one that has more time than the setting gives is from before the setting
    return timeout_seconds - NEW_SECONDS < entry.expires_seconds <= timeout_seconds


def _state(entry: Entry) -> str:
    if entry.state is not None:
        return entry.state
    return "UNREPLIED" if entry.unreplied else "ASSURED" if entry.assured else "REPLIED"
