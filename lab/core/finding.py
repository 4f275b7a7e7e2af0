"""From evidence to a finding: pure functions, a table of rules, and a sentence that quotes the numbers.

The first rule that speaks decides. They begin with what makes evidence worthless, so silence never passes for a result.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from lab.core import kmsg
from lab.core.conntrack import Slab, conntrack_modules, integer, mib, modules, slab
from lab.core.evidence import Evidence, Sample, Snapshot, drop_increase

# errno of a connect or an accept -> what ran out or refused
CAUSES: Mapping[str, str] = {
    "EMFILE": "file descriptors",
    "ENFILE": "file descriptors",
    "EADDRNOTAVAIL": "ephemeral ports",
    "ECONNREFUSED": "reset",
    "ECONNRESET": "reset",
    "ECONNABORTED": "reset",
    "EPIPE": "reset",
    "ETIMEDOUT": "timeout",
    "EHOSTUNREACH": "unreachable",
    "ENETUNREACH": "unreachable",
    "ENOBUFS": "kernel memory",
    "ENOMEM": "kernel memory",
}

# exit statuses that the guest's agent gives by itself, as a shell does
BROKEN_STATUS: Mapping[int, str] = {
    124: "did not end in time",
    126: "cannot be executed",
    127: "is not in this machine",
}

_CORE_MODULES = ("nf_conntrack", "ip_conntrack")
_MODULE_LISTS = ("modules", "modules_after")
_MAX_SETTING = "net.netfilter.nf_conntrack_max"
_BUCKETS_LINE = "/proc/sys/net/netfilter/nf_conntrack_buckets: "
_MAX_STRANGERS = 8
_BUCKET_BYTES = 8  # an hlist_nulls_head, on 64 bit (include/linux/list_nulls.h)

# What the kinds of load did with a connection, and with one that was held.
_DONE: Mapping[str, tuple[str, str]] = {
    "hold": ("connections", "held"),
    "churn": ("connections", "opened and closed"),
    "half-open": ("SYNs", "sent"),
    "udp": ("datagrams", "sent"),
}


@dataclass(frozen=True)
class Memory:
    """What the table costs; None is unknown. Extensions of entries are allocated apart, and are not in it."""

    entry_bytes: int | None = None  # one entry
    entries_bytes_before: int | None = None  # of the cache that the entries are in (slabinfo)
    entries_bytes_after: int | None = None
    buckets: int | None = None
    hash_bytes: int | None = None


NO_MEMORY = Memory()


@dataclass(frozen=True)
class Measured:
    """The numbers that a finding stands on; None is unknown."""

    kind: str = "hold"  # of the load
    wanted: int | None = None  # connections asked for
    connections: Mapping[str, int] | None = field(default=None, hash=False)
    table_max: int | None = None
    entries_before: int | None = None
    entries_peak: int | None = None
    reached_max: bool = False
    drops: int | None = None
    early_drops: int | None = None
    insert_failed: int | None = None
    first_drop_seconds: float | None = None
    message_logged: bool | None = None
    absent: bool = False  # conntrack is not in this kernel at all: entries are impossible, not merely unseen
    max_changed: tuple[int, ...] = ()  # the max as it was set, then every value that it had, when it was more than one
    ended: str | None = None
    errors: Mapping[str, int] = field(default_factory=dict, hash=False)  # errno -> how often a connect or send gave it
    open_peak: int | None = None  # most connections open at once
    newcomers: Mapping[str, int] | None = field(default=None, hash=False)
    memory: Memory = NO_MEMORY
    load_entries: int | None = None  # the most entries that the load's own connections had; None: unknown

    @property
    def all_held(self) -> bool:
        """Whether every connection was established and accepted."""
        counts = self.connections
        return counts is not None and self.wanted == counts["held"] and counts["accepted"] >= counts["held"]

    @property
    def new_entries(self) -> int | None:
        """By how much the table grew from the load's beginning to its fullest moment."""
        if self.entries_peak is None or self.entries_before is None:
            return None
        return self.entries_peak - self.entries_before


@dataclass(frozen=True)
class Finding:
    """What the evidence shows, the sentence that says why, and for `other-loss` what lost the connections."""

    name: str
    reason: str
    cause: str | None = None
    measured: Measured = Measured()


Verdict = tuple[str, str, str | None]  # finding, reason, cause
Rule = Callable[[Evidence, Measured], Verdict | None]


def judge(evidence: Evidence) -> Finding:
    """The finding of a cell. Evidence that contradicts itself or cannot be read is `inconclusive`, with what it was."""
    try:
        measured = measure(evidence)
        for rule in RULES:
            verdict = rule(evidence, measured)
            if verdict is not None:
                name, reason, cause = verdict
                return Finding(name, reason, cause, measured)
    except (ValueError, KeyError, TypeError, AttributeError, OverflowError) as error:
        return Finding("inconclusive", f"the evidence cannot be read: {error}")
    return Finding("inconclusive", "no rule covers this evidence", None, measured)


def measure(evidence: Evidence) -> Measured:
    """The numbers in the evidence. Raises ValueError for text that is not what the kernel prints."""
    samples, load = evidence.samples, evidence.load or {}
    entries = [sample.entries for sample in samples if sample.entries is not None]
    limits = [sample.table_max for sample in samples if sample.table_max is not None]
    different = tuple(dict.fromkeys((*_max_as_set(evidence), *limits)))
    return Measured(
        kind=str(load.get("kind", "hold")),
        wanted=load.get("connections"),
        connections=_connections(load),
        table_max=limits[-1] if limits else None,
        entries_before=samples[0].entries if samples else None,
        entries_peak=max(entries, default=None),
        # An entry is evicted only for one beyond the max (__nf_conntrack_alloc() in nf_conntrack_core.c). Since 4.8
        # this empties a bucket, so that the max may be left again before a sample sees it.
        reached_max=any(sample.full for sample in samples) or bool(drop_increase(samples, "early_drop")),
        drops=drop_increase(samples, "drop"),
        early_drops=drop_increase(samples, "early_drop"),
        insert_failed=drop_increase(samples, "insert_failed"),
        first_drop_seconds=_first_rise(samples, "drop"),
        message_logged=_message_logged(evidence),
        absent=_is_absent(evidence),
        max_changed=different if len(different) > 1 else (),
        ended=load.get("ended"),
        errors=_errors(load),
        open_peak=load.get("open_peak"),
        newcomers=load.get("newcomers"),
        memory=_memory(evidence),
    )


def _skipped(evidence: Evidence, _: Measured) -> Verdict | None:
    return None if evidence.skipped is None else ("skipped", evidence.skipped, None)


def _lost(evidence: Evidence, _: Measured) -> Verdict | None:
    return None if evidence.lost is None else ("inconclusive", f"the machine was lost: {evidence.lost}", None)


def _broken_step(evidence: Evidence, _: Measured) -> Verdict | None:
    """A program that is missing or does not end says nothing about the kernel, whatever the step expected of it."""
    for step in evidence.steps:
        if step.get("exit_status") in BROKEN_STATUS:
            what = " ".join(step.get("argv", [])) or step.get("key") or "a step"
            return "inconclusive", f"`{what}` {BROKEN_STATUS[step['exit_status']]}", None
    return None


def _refused(evidence: Evidence, _: Measured) -> Verdict | None:
    if evidence.reached is not False or not evidence.steps:
        return None
    step = evidence.steps[-1]
    what = " ".join(step.get("argv", [])) or step.get("path") or step.get("key") or "a step"
    said = (step.get("stderr") or step.get("stdout") or "").strip()
    if step.get("exit_status") == 0:
        return "state-refused", f"`{what}` should have been refused, but succeeded", None
    status = step.get("exit_status")
    return "state-refused", f"`{what}` ended with status {status}: {said or 'it printed nothing'}", None


def _not_reached(evidence: Evidence, _: Measured) -> Verdict | None:
    if evidence.reached is None:
        return "inconclusive", "the starting state was not applied to its end", None
    if evidence.before is None or evidence.settings is None:
        return "inconclusive", "the state before the load was not recorded", None
    return None


def _observer_effect(evidence: Evidence, _: Measured) -> Verdict | None:
    for name, snapshot in (("before", evidence.before), ("after", evidence.after)):
        loaded = _loaded_meanwhile(snapshot)
        if loaded:
            return "inconclusive", f"recording the state {name} the load itself loaded {', '.join(loaded)}", None
    return None


def _not_set(evidence: Evidence, measured: Measured) -> Verdict | None:
    for name, outcome in (evidence.settings or {}).items():
        if outcome["before"] is None and outcome["error"] == "ENOENT":
            continue  # this state has no table to set anything of
        if outcome["error"] or (name == _MAX_SETTING and outcome["after"] != str(outcome["wanted"])):
            shown = outcome["error"] or f"it is {outcome['after']}"
            return "inconclusive", f"{name} could not be set to {outcome['wanted']}: {shown}", None
    return None


def _not_driven(evidence: Evidence, measured: Measured) -> Verdict | None:
    if evidence.load is None:
        return "inconclusive", "the load did not end", None
    if measured.connections is None:
        return "inconclusive", f"the load could not be driven: {evidence.load.get('error')}", None
    if not evidence.samples:
        return "inconclusive", "the load left no samples", None
    return None


def _table_full(evidence: Evidence, measured: Measured) -> Verdict | None:
    if not (measured.reached_max and measured.drops):
        return None
    message = {True: "was logged", False: "was not logged", None: "is unknown"}[measured.message_logged]
    reason = (
        f"the table reached its max ({measured.entries_peak} of {measured.table_max} entries) and the kernel dropped "
        f"{measured.drops} packets, the first after {_seconds(measured.first_drop_seconds)}; "
        f"{_held(measured)}; the kernel's message {message}"
    )
    return "table-full", reason + _besides(evidence, measured), None


def _evicted(evidence: Evidence, measured: Measured) -> Verdict | None:
    if not (measured.reached_max and measured.early_drops and measured.drops == 0):
        return None
    reason = (
        f"the table reached its max ({measured.entries_peak} of {measured.table_max} entries) and "
        f"{measured.early_drops} entries were evicted for new ones, none dropped; {_held(measured)}"
    )
    return "evicted", reason + _besides(evidence, measured), None


def _unknown_counter(_: Evidence, measured: Measured) -> Verdict | None:
    if measured.absent:
        return None
    if measured.entries_peak is None or measured.entries_before is None:
        return "inconclusive", "conntrack is in this kernel, but nf_conntrack_count cannot be read", None
    # with fewer entries than the max in every sample, the max may still have been met, and left, between two of them
    if measured.reached_max or not measured.all_held or (measured.new_entries or 0) > 0:
        for name, count in (("drop", measured.drops), ("early_drop", measured.early_drops)):
            if count is None:
                return "inconclusive", f"conntrack is in this kernel, but its {name} counter cannot be read", None
    return None


def _all_held(evidence: Evidence, measured: Measured) -> Verdict | None:
    if not measured.all_held:
        return None
    if measured.absent:
        reason = f"nf_conntrack is not in this kernel (neither loaded nor built in), and all {_held(measured)}"
        return "untracked", reason, None
    new = measured.new_entries or 0
    counts = f"entries went from {measured.entries_before} to at most {measured.entries_peak}"
    besides = _besides(evidence, measured)
    if new <= 0:
        return "untracked", f"nf_conntrack is there, but {counts}, and all {_held(measured)}{besides}", None
    dropped = f"; the drop counter rose by {measured.drops} all the same" if measured.drops else ""
    besides += _cost(measured.memory)
    return "tracked", f"{counts} (max {measured.table_max}), and all {_held(measured)}{dropped}{besides}", None


def _fell_short(_: Evidence, measured: Measured) -> Verdict | None:
    counts = measured.connections or {}
    moving = measured.ended == "deadline" and not counts.get("failed") and not counts.get("lost")
    unaccepted = counts.get("accepted", 0) < counts.get("held", 0)
    none_lost = not any(counts.get(name) for name in ("failed", "lost", "stalled")) and not unaccepted
    if not (moving or none_lost):
        return None
    return "inconclusive", f"the load fell short within its time: {_held(measured)}", None


def _other_loss(evidence: Evidence, measured: Measured) -> Verdict | None:
    cause, detail = _cause(evidence, measured)
    return "other-loss", f"{_held(measured)}, and the cause is {cause} ({detail})", cause


RULES: tuple[Rule, ...] = (
    _lost,
    _skipped,
    _broken_step,
    _refused,
    _not_reached,
    _observer_effect,
    _not_set,
    _not_driven,
    _table_full,
    _evicted,
    _unknown_counter,
    _all_held,
    _fell_short,
    _other_loss,
)


def _cause(evidence: Evidence, measured: Measured) -> tuple[str, str]:
    """What lost the connections, by the kernel's own word where there is one, and the numbers that show it."""
    load, counts = evidence.load or {}, measured.connections or {}
    errors = _errors(load)
    if errors:
        name = max(errors, key=lambda error: errors[error])
        return CAUSES.get(name, name), ", ".join(f"{error} {count} times" for error, count in errors.items())
    if counts.get("lost"):
        return "reset", f"{counts['lost']} established connections were closed by the other side"
    if measured.drops:
        return "conntrack drop below max", f"drop rose by {measured.drops}, entries reached {measured.entries_peak}"
    overflows = _mib_increase(evidence, ("TcpExt.ListenOverflows", "TcpExt.ListenDrops", "TcpExt.TCPReqQFullDrop"))
    if any(overflows.values()) or counts.get("accepted", 0) < counts.get("held", 0):
        shown = ", ".join(f"{name} rose by {rise}" for name, rise in overflows.items() if rise)
        return "accept backlog", shown or f"{counts.get('held')} connected, {counts.get('accepted')} accepted"
    stalled = sum(client["stalled"]["syn_retransmitted"] for client in load.get("clients", []))
    examined = sum(client["stalled"]["examined"] for client in load.get("clients", []))
    unseen = "; whether the accept queue overflowed is unknown" if overflows["TcpExt.ListenOverflows"] is None else ""
    return "timeout", f"{stalled} of {examined} stalled connects sent their SYN again without an answer{unseen}"


def _errors(load: Mapping[str, Any]) -> dict[str, int]:
    totals: dict[str, int] = {}
    for side in (*load.get("clients", []), *load.get("servers", [])):
        for name, count in side.get("errors", {}).items():
            totals[name] = totals.get(name, 0) + count
    return totals


def _mib_increase(evidence: Evidence, names: Iterable[str]) -> dict[str, int | None]:
    before, after = (_mib(snapshot) for snapshot in (evidence.before, evidence.after))
    return {name: after[name] - before[name] if name in before and name in after else None for name in names}


def _mib(snapshot: Snapshot | None) -> Mapping[str, int]:
    text = snapshot.texts.get("netstat") if snapshot is not None else None
    return mib(text) if text else {}


def _connections(load: Mapping[str, Any]) -> Mapping[str, int] | None:
    progress = load.get("progress")
    if progress is None:
        return None
    counts = {name: int(progress[name]) for name in ("attempted", "held", "failed", "lost", "accepted")}
    stalled = counts["attempted"] - counts["held"] - counts["failed"] - counts["lost"]
    untried = int(load["connections"]) - counts["attempted"]
    if min(stalled, untried, *counts.values()) < 0:
        raise ValueError(f"the counts of connections contradict each other: {counts}")
    return {**counts, "stalled": stalled, "untried": untried}


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


def _loaded_meanwhile(snapshot: Snapshot | None) -> list[str]:
    """The conntrack modules that came while the observation was made."""
    if snapshot is None or not {"modules", "modules_after"} <= snapshot.texts.keys():
        return []
    first, last = ({m.name for m in conntrack_modules(modules(snapshot.texts[name]))} for name in _MODULE_LISTS)
    return sorted(last - first)


def _first_rise(samples: tuple[Sample, ...], name: str) -> float | None:
    """The time of the first sample that shows a higher count than the one before the load."""
    if not samples or samples[0].counter(name) is None:
        return None
    before = samples[0].counter(name)
    risen = (s.seconds for s in samples if s.counter(name) is not None and s.counter(name) != before)
    return next(risen, None)


def _message_logged(evidence: Evidence) -> bool | None:
    """Whether the log has the message; None when it has not, but is not whole either."""
    if evidence.kernel_log is None:
        return None
    holes = evidence.kernel_log_holes or {}
    if kmsg.table_full(log := kmsg.records(evidence.kernel_log)).logged:
        return True
    return None if holes.get("overwritten") or holes.get("truncated") or kmsg.gaps(log) else False


def _max_as_set(evidence: Evidence) -> tuple[int, ...]:
    after = ((evidence.settings or {}).get(_MAX_SETTING) or {}).get("after")
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


def _besides(evidence: Evidence, measured: Measured) -> str:
    """What else a reader of the reason has to know: newcomers, refused sends, a max that did not stay."""
    parts = []
    if measured.newcomers is not None:
        parts.append(f"of {measured.newcomers['connections']} newcomers {measured.newcomers['held']} got through")
    if measured.errors:
        parts.append(", ".join(f"{name} {count} times" for name, count in measured.errors.items()))
    if measured.kind == "churn" and measured.open_peak is not None:
        parts.append(f"at most {measured.open_peak} were open at once")
    if measured.max_changed:
        values = " to ".join(map(str, measured.max_changed))
        besides = "; ".join(_strangers(evidence.after)) or "nothing else was seen running"
        parts.append(f"nf_conntrack_max did not stay as it was set, it went from {values}; running besides: {besides}")
    return "".join(f"; {part}" for part in parts)


def _cost(memory: Memory) -> str:
    """What the table took of the kernel's memory, as far as that is known."""
    parts = []
    if memory.entries_bytes_after is not None:
        parts.append(f"{memory.entries_bytes_after / 2**20:.1f} MiB for entries of {memory.entry_bytes} bytes")
    if memory.hash_bytes is not None:
        parts.append(f"{memory.hash_bytes / 2**20:.1f} MiB for {memory.buckets} buckets")
    return f"; kernel memory: {', '.join(parts)}" if parts else ""


def _strangers(snapshot: Snapshot | None) -> list[str]:
    """The processes that are neither the kernel's nor the lab's: one of them may have written the max."""
    text = snapshot.texts.get("processes") if snapshot is not None else None
    found = [f"`{line.split(' ', 2)[2]}`" for line in (text or "").splitlines() if line.count(" ") >= 2]
    return found[:_MAX_STRANGERS] + ([f"and {len(found) - _MAX_STRANGERS} more"] if len(found) > _MAX_STRANGERS else [])


def _held(measured: Measured) -> str:
    counts = measured.connections or {}
    what, done = _DONE.get(measured.kind, _DONE["hold"])
    parts = [f"{counts.get('held')} of {measured.wanted} {what} were {done}"]
    parts += [f"{counts[name]} {name}" for name in ("stalled", "failed", "lost", "untried") if counts.get(name)]
    return ", ".join(parts)


def _seconds(value: float | None) -> str:
    return "an unknown time" if value is None else f"{value:.2f} s"
