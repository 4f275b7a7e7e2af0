"""The table of a namespace: how full it is, what it lost, what it costs, and when it will be full."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from lab.core.evidence import Snapshot
from lab.core.inspecting.model import Namespace
from lab.core.kernel.conntrack import counter_delta, integer, mib, slab, stat_totals

COUNTERS = ("drop", "early_drop", "insert_failed", "found", "chainlength", "search_restart", "invalid")
# what raises `drop` beside a full table
_OTHER_DROPS = ("insert_failed", "clashres")
_BUCKET_BYTES = 8  # an hlist_nulls_head, on 64 bit
NEARLY = 0.9  # of max: room for a burst is gone
SOON_SECONDS = 3600.0
_OPENED = ("Tcp.ActiveOpens", "Tcp.PassiveOpens")
_PREFIX = "nf_conntrack_"
_SETTINGS = ("sysctl", "parameters")


@dataclass(frozen=True)
class TableState:
    """None is unknown. Counters are those since boot (of the namespace's making); rises are between the two looks."""

    entries: int | None = None
    table_max: int | None = None
    buckets: int | None = None
    entry_bytes: int | None = None
    entries_bytes: int | None = None  # of the cache, which all namespaces share
    counters: Mapping[str, int] = field(default_factory=dict, hash=False)
    rises: Mapping[str, int] = field(default_factory=dict, hash=False)
    entries_later: int | None = None
    seconds: float | None = None
    opened_per_second: float | None = None  # TCP connections that this host opened or accepted
    timeouts_seconds: Mapping[str, int] = field(default_factory=dict, hash=False)

    @property
    def share(self) -> float | None:
        """How full it is, from 0 to 1; None where that is unknown or there is no limit."""
        now = self.entries if self.entries_later is None else self.entries_later
        return None if now is None or not self.table_max else now / self.table_max

    @property
    def growth_per_second(self) -> float | None:
        """How fast entries grow."""
        if self.entries is None or self.entries_later is None or not self.seconds:
            return None
        return (self.entries_later - self.entries) / self.seconds

    @property
    def drops_rise(self) -> int | None:
        """Packets dropped between the looks because the table was full; None where that was not counted."""
        return None if "drop" not in self.rises else table_drops(self.rises)

    @property
    def hash_bytes(self) -> int | None:
        """The memory of the hash table."""
        return None if self.buckets is None else self.buckets * _BUCKET_BYTES

    @property
    def full_in_seconds(self) -> float | None:
        """When it will be full if it goes on growing so; None where it does not grow."""
        growth = self.growth_per_second
        if not growth or growth <= 0 or not self.table_max or self.entries_later is None:
            return None
        return max(0.0, (self.table_max - self.entries_later) / growth)

    @property
    def steady_entries(self) -> int | None:
        """How many entries this host's own short TCP connections come to: rate times the timeout of TIME_WAIT."""
        timeout = self.timeouts_seconds.get("tcp_timeout_time_wait")
        return None if self.opened_per_second is None or timeout is None else round(self.opened_per_second * timeout)


def table_drops(counters: Mapping[str, int]) -> int:
    """`drop` without what raised it for another reason: failed insertions, and clashes."""
    return max(0, counters.get("drop", 0) - sum(counters.get(name, 0) for name in _OTHER_DROPS))


def table_state(namespace: Namespace) -> TableState:
    """What a namespace's texts say of its table. A text that cannot be read is one that says nothing."""
    first = settings(namespace.snapshot)
    later = settings(namespace.later) if namespace.later else {}
    counters, counters_later = _stat(namespace.snapshot), _stat(namespace.later)
    rises = {name: counter_delta(counters, counters_later, name) for name in counters_later if name != "entries"}
    entry_bytes, entries_bytes = _memory(namespace.snapshot)
    entries, entries_later = first.get("count"), later.get("count")
    return TableState(
        entries=counters.get("entries") if entries is None else entries,
        table_max=first.get("max"),
        buckets=first.get("buckets", first.get("hashsize")),
        entry_bytes=entry_bytes,
        entries_bytes=entries_bytes,
        counters={name: value for name, value in counters.items() if name != "entries"},
        rises={name: rise for name, rise in rises.items() if rise is not None},
        entries_later=counters_later.get("entries") if entries_later is None else entries_later,
        seconds=namespace.seconds,
        opened_per_second=_opened(namespace),
        timeouts_seconds={name: value for name, value in first.items() if "timeout" in name},
    )


def settings(snapshot: Snapshot) -> dict[str, int]:
    """The numbers of nf_conntrack's sysctls and parameters, without `nf_conntrack_`: count, max, tcp_timeout_close."""
    found: dict[str, int] = {}
    for line in (line for name in _SETTINGS for line in (snapshot.texts.get(name) or "").splitlines()):
        path, _, value = line.partition(": ")
        try:
            found[path.rpartition("/")[2].removeprefix(_PREFIX)] = integer(value)
        except ValueError:
            continue
    return found


def _stat(snapshot: Snapshot | None) -> Mapping[str, int]:
    text = snapshot.texts.get("stat_nf_conntrack") if snapshot is not None else None
    try:
        return {} if text is None else stat_totals(text)
    except ValueError:
        return {}


def _memory(snapshot: Snapshot) -> tuple[int | None, int | None]:
    try:
        found = slab(snapshot.texts["slabinfo"]) if "slabinfo" in snapshot.texts else None
    except ValueError:
        found = None
    return (None, None) if found is None else (found.object_bytes, found.total_bytes)


def _opened(namespace: Namespace) -> float | None:
    if namespace.later is None or not namespace.seconds:
        return None
    try:
        before, after = (mib(one.texts["snmp"]) for one in (namespace.snapshot, namespace.later))
        return sum(after[name] - before[name] for name in _OPENED) / namespace.seconds
    except (KeyError, ValueError):
        return None
