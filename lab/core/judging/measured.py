"""The numbers that a finding stands on, taken from the evidence; None is unknown."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from lab.core.evidence import Evidence, Sample, Snapshot
from lab.core.judging.attribution import LoadEntries, Unattributed, attribute
from lab.core.judging.end_tables import EndMeasured, end_tables
from lab.core.judging.messages import Messages, messages
from lab.core.judging.rises import Step, resets, steps, total
from lab.core.judging.rule_counters import changes_addresses
from lab.core.judging.traffic import traffic_of
from lab.core.kernel.conntrack import Slab, integer, modules, slab
from lab.core.result import Memory

ANSWERED = "answered"  # the load `udp` with answers
MAX_SETTING = "net.netfilter.nf_conntrack_max"
_CORE_MODULES = ("nf_conntrack", "ip_conntrack")
_BUCKETS_LINE = "/proc/sys/net/netfilter/nf_conntrack_buckets: "
_BUCKET_BYTES = 8  # an hlist_nulls_head, on 64 bit (include/linux/list_nulls.h)
_PROGRESS = ("attempted", "held", "failed", "lost", "accepted")


NO_MEMORY = Memory()
NO_MESSAGES = Messages()
NO_ATTRIBUTION = Unattributed("nothing was recorded", recorded=False)


@dataclass(frozen=True)
class Moment:
    """The table in one sample."""

    entries: int | None
    table_max: int | None
    full: bool


@dataclass(frozen=True)
class Measured:
    """The numbers that a finding stands on; None is unknown."""

    kind: str = "hold"  # of the load
    wanted: int | None = None  # connections asked for
    connections: Mapping[str, int] | None = field(default=None, hash=False)
    table_max: int | None = None
    entries_before: int | None = None
    entries_peak: int | None = None
    fullest: Moment | None = None  # when the table was closest to its max: entries and max are quoted from one sample
    reached_max: bool = False
    drops: int | None = None
    early_drops: int | None = None
    insert_failed: int | None = None
    steps: tuple[Step, ...] = ()  # of the counters, between the samples
    resets: int = 0  # how often the counters began again
    first_drop_seconds: float | None = None
    messages: Messages = NO_MESSAGES
    absent: bool = False  # conntrack is not loaded and not built in: entries are impossible, not merely unseen
    max_changed: tuple[int, ...] = ()  # the max as it was set, then every value that it had, when it was more than one
    ended: str | None = None
    errors: Mapping[str, int] = field(default_factory=dict, hash=False)  # errno -> how often a connect or send gave it
    open_peak: int | None = None  # most connections open at once
    newcomers: Mapping[str, int] | None = field(default=None, hash=False)
    attribution: LoadEntries | Unattributed = NO_ATTRIBUTION
    held_resent: int | None = None  # held connections whose first SYN was lost
    memory: Memory = NO_MEMORY
    dead: int | None = None  # connections that were open at the end and carried no byte any more
    ends: tuple[EndMeasured, ...] = ()

    @property
    def load_entries(self) -> int | None:
        """The most entries that the load's own connections had in any look at the table; None where that is unknown."""
        return self.attribution.peak if isinstance(self.attribution, LoadEntries) else None

    @property
    def message_logged(self) -> bool | None:
        """Whether the kernel said during the load that the table is full."""
        return self.messages.during

    @property
    def all_held(self) -> bool:
        """Whether every connection was established and accepted, every newcomer too."""
        counts = self.connections
        if self.dead:
            return False
        if counts is None or self.wanted != counts["held"] or counts["accepted"] < counts["held"]:
            return False
        late = self.newcomers
        return late is None or (late["held"] == late["connections"] and late["accepted"] >= late["held"])

    @property
    def new_entries(self) -> int | None:
        """By how much the table grew from the load's beginning to its fullest moment."""
        if self.entries_peak is None or self.entries_before is None:
            return None
        return self.entries_peak - self.entries_before

    @property
    def dropped_for_room(self) -> int:
        """Packets dropped while the table was full, less those that failed inserts account for.

        Where only the two together are known, the kernel's own message decides: it comes from nowhere else.
        """
        full = [step for step in self.steps if step.full]
        sure = sum(step.dropped_for_room for step in full)
        return sure or (sum(step.drop or 0 for step in full) if self.messages.during else 0)


def measure(evidence: Evidence) -> Measured:
    """The numbers in the evidence. Raises ValueError for text that is not what the kernel prints."""
    samples, load = evidence.samples, evidence.load or {}
    entries = [sample.entries for sample in samples if sample.entries is not None]
    limits = [sample.table_max for sample in samples if sample.table_max is not None]
    different = tuple(dict.fromkeys((*_max_as_set(evidence), *limits)))
    between = steps(samples)
    return Measured(
        kind=ANSWERED if load.get("answered") else str(load.get("kind", "hold")),
        wanted=load.get("connections"),
        connections=_connections(evidence),
        table_max=limits[-1] if limits else None,
        entries_before=samples[0].entries if samples else None,
        entries_peak=max(entries, default=None),
        fullest=_fullest(samples),
        reached_max=any(sample.full for sample in samples) or any(step.full for step in between),
        drops=total(samples, "drop"),
        early_drops=total(samples, "early_drop"),
        insert_failed=total(samples, "insert_failed"),
        steps=between,
        resets=resets(samples),
        first_drop_seconds=next((step.seconds for step in between if step.drop), None),
        messages=messages(evidence),
        absent=_is_absent(evidence),
        max_changed=different if len(different) > 1 else (),
        ended=load.get("ended"),
        errors=errors_of(load, "clients", "servers"),
        open_peak=load.get("open_peak"),
        newcomers=load.get("newcomers"),
        attribution=attribute(load),
        held_resent=_held_resent(load),
        memory=_memory(evidence),
        dead=_dead(load),
        ends=end_tables(samples),
    )


def _dead(load: Mapping[str, Any]) -> int | None:
    exchange = load.get("exchange")
    if exchange is None:
        return None
    return max(0, int(exchange.get("asked", 0)) - int(exchange.get("answered", 0)))


def _fullest(samples: Sequence[Sample]) -> Moment | None:
    found = max(samples, key=_fullness, default=None)
    return None if found is None else Moment(found.entries, found.table_max, found.full)


def _fullness(sample: Sample) -> float:
    if sample.entries is None:
        return -1.0
    return sample.entries / sample.table_max if sample.table_max else 0.0


def errors_of(load: Mapping[str, Any], *sides: str) -> dict[str, int]:
    """How often each errno came at these sides of a load, `clients` and `servers`, by its name."""
    totals: dict[str, int] = {}
    for one in (one for side in sides for one in load.get(side, [])):
        for name, count in one.get("errors", {}).items():
            totals[name] = totals.get(name, 0) + count
    return totals


def _held_resent(load: Mapping[str, Any]) -> int | None:
    counts = [client.get("held_resent") for client in load.get("clients", [])]
    return None if not counts or None in counts else sum(counts)


def _connections(evidence: Evidence) -> Mapping[str, int] | None:
    load = evidence.load or {}
    progress = load.get("progress")
    if progress is None:
        return None
    counts = {name: int(progress[name]) for name in _PROGRESS}
    counts["accepted"] += min(_readdressed(evidence), max(0, counts["held"] - counts["accepted"]))
    stalled = counts["attempted"] - counts["held"] - counts["failed"] - counts["lost"]
    untried = int(load["connections"]) - counts["attempted"]
    if min(stalled, untried, *counts.values()) < 0:
        raise ValueError(f"the counts of connections contradict each other: {counts}")
    return {**counts, "stalled": stalled, "untried": untried}


def _readdressed(evidence: Evidence) -> int:
    """How many connections the load's listeners accepted that do not come from its own addresses, where rules may have
    changed these on the way. Elsewhere they are somebody else's.
    """
    load = evidence.load or {}
    strangers = sum(int(server.get("strangers", 0)) for server in load.get("servers", []))
    changed = strangers and any(
        changes_addresses(snapshot, traffic_of(load)) for snapshot in (evidence.before, evidence.after)
    )
    return strangers if changed else 0


def _is_absent(evidence: Evidence) -> bool:
    """True only if both observations show a kernel without conntrack, and no sample saw its files."""
    if any(sample.entries is not None or sample.counters is not None for sample in evidence.samples):
        return False
    return all(_shows_absence(snapshot) for snapshot in (evidence.before, evidence.after))


def _shows_absence(snapshot: Snapshot | None) -> bool:
    if snapshot is None:
        return False
    loaded, present = snapshot.texts.get("modules"), snapshot.texts.get("sys_module")
    if loaded is None or present is None:
        return False
    names = {module.name for module in modules(loaded)} | set(present.split())
    return not names.intersection(_CORE_MODULES)


def _max_as_set(evidence: Evidence) -> tuple[int, ...]:
    after = ((evidence.settings or {}).get(MAX_SETTING) or {}).get("after")
    return (integer(after),) if after else ()


def _memory(evidence: Evidence) -> Memory:
    before, after = (_slab(snapshot) for snapshot in (evidence.before, evidence.after))
    buckets = _buckets(evidence.after)
    return Memory(
        entry_bytes=after.object_bytes if after else None,
        entries_bytes_before=before.total_bytes if before else None,
        entries_bytes_after=after.total_bytes if after else None,
        buckets=buckets,
        hash_bytes=None if buckets is None else buckets * _BUCKET_BYTES,
    )


def _slab(snapshot: Snapshot | None) -> Slab | None:
    text = snapshot.texts.get("slabinfo") if snapshot is not None else None
    return slab(text) if text else None


def _buckets(snapshot: Snapshot | None) -> int | None:
    lines = (snapshot.texts.get("sysctl") or "").splitlines() if snapshot is not None else []
    values = (line.removeprefix(_BUCKETS_LINE) for line in lines if line.startswith(_BUCKETS_LINE))
    return next((integer(value) for value in values), None)
