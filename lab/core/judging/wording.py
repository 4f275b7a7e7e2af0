"""The sentences of a finding's reason: each quotes the numbers that it stands on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from lab.core.evidence import Evidence, Snapshot
from lab.core.judging.attribution import LoadEntries, tracked_ports
from lab.core.judging.measured import ANSWERED, Measured, Moment
from lab.core.result import Loss, Memory

_MAX_STRANGERS = 8
_MAX_PORTS = 4
_MAX_NAME = 200  # characters of a process in a sentence

# What the kinds of load did with a connection, and with one that was held.
_DONE: Mapping[str, tuple[str, str]] = {
    "hold": ("connections", "held"),
    "churn": ("connections", "opened and closed"),
    "half-open": ("SYNs", "sent"),
    "udp": ("datagrams", "sent"),
    ANSWERED: ("questions", "answered"),
}


def held(measured: Measured) -> str:
    """`100 of 2000 connections were held, 1900 stalled`."""
    counts = measured.connections or {}
    what, done = _DONE.get(measured.kind, _DONE["hold"])
    parts = [f"{counts.get('held')} of {measured.wanted} {what} were {done}"]
    parts += [f"{counts[name]} {name}" for name in ("stalled", "failed", "lost", "untried") if counts.get(name)]
    parts += [f"{measured.dead} open and dead"] if measured.dead else []
    if counts.get("accepted", 0) < counts.get("held", 0):
        parts.append(f"{counts['accepted']} accepted")
    return ", ".join(parts)


def table_state(measured: Measured) -> str:
    """Entries and max of the fullest sample, or that the table was full where no sample was."""
    fullest = measured.fullest
    if fullest is not None and fullest.full:
        return f"the table reached its max ({fullest.entries} of {fullest.table_max} entries)"
    return f"the table was full between two samples (the fullest has {_quoted(fullest)})"


def new_entries(measured: Measured) -> str:
    """Which entries came: the load's own where the table was read, else by how much the count rose."""
    found = measured.attribution
    if not isinstance(found, LoadEntries):
        return f"entries went from {measured.entries_before} to at most {measured.entries_peak}"
    others = f"; of anything else there were at most {found.others_peak}" if found.others_peak else ""
    what, _ = _DONE.get(measured.kind, _DONE["hold"])
    there = tried(measured)
    if found.peak == 0:
        return f"the table was read {_times(found.looks)} and had no entry of the {there} {what}{others}"
    if found.peak >= there:
        return f"all {there} {what} had entries of their own{others}"
    share = f"{found.peak} of {there} {what} had entries of their own at the fullest moment"
    return f"{share} ({found.peak / there:.0%}{_ports(found)}){others}" if there else share


def tried(measured: Measured) -> int:
    """How many connections, and newcomers, can have had an entry at the end."""
    return sum((counts or {}).get("held", 0) for counts in (measured.connections, measured.newcomers))


def loss_sentence(losses: Sequence[Loss]) -> str:
    """`750 to a rule (...), 5 refused (...)`."""
    return "; ".join(f"{loss.connections}: {loss.cause} ({loss.detail})" for loss in losses)


def message(measured: Measured) -> str:
    """What became of the kernel's message."""
    said = measured.messages
    shown = {True: "was logged", False: "was not logged", None: "is unknown"}[said.during]
    earlier = " during the load, but before it" if said.before and said.during is False else ""
    return f"the kernel's message {shown}{earlier}"


def besides(evidence: Evidence, measured: Measured) -> str:
    """What else a reader of the reason has to know: newcomers, refused sends, a max that did not stay, other tables."""
    parts = []
    if measured.newcomers is not None:
        parts.append(f"of {measured.newcomers['connections']} newcomers {measured.newcomers['held']} got through")
    if measured.errors:
        parts.append(", ".join(f"{name} {count} times" for name, count in measured.errors.items()))
    if measured.kind == "churn" and measured.open_peak is not None:
        parts.append(f"at most {measured.open_peak} were open at once")
    if measured.resets:
        parts.append(f"the counters began again {_times(measured.resets)}, so what they show is a lower bound")
    if measured.max_changed:
        values = " to ".join(map(str, measured.max_changed))
        running = "; ".join(_strangers(evidence.after)) or "nothing else was seen running"
        parts.append(f"nf_conntrack_max did not stay as it was set, it went from {values}; running besides: {running}")
    return "".join(f"; {part}" for part in parts)


def not_the_loads(measured: Measured) -> str:
    """What happened to the table although the load lost nothing to it."""
    parts = []
    if measured.drops and measured.reached_max and 0 < (measured.load_entries or 0) < tried(measured):
        # act_ct passes on what the tracker refused (net/sched/act_ct.c)
        parts.append(f"the drop counter rose by {measured.drops}, for packets that went on without an entry")
    elif measured.drops:
        parts.append(f"the drop counter rose by {measured.drops}, for packets that were not the load's")
    if measured.early_drops:
        parts.append(f"{measured.early_drops} entries were evicted, none of the load's")
    if measured.messages.during and not measured.drops:
        where = ", ".join(map(str, measured.messages.namespaces))
        named = f" (net namespace {where})" if where else ""
        parts.append(f"the kernel's message was logged, for the full table of another network namespace{named}")
    elif measured.messages.before and measured.messages.during is False:
        parts.append("the kernel's message was logged before the load, not during it")
    return "".join(f"; {part}" for part in parts)


def cost(memory: Memory) -> str:
    """What the table took of the kernel's memory, as far as that is known."""
    parts = []
    if memory.entries_bytes_after is not None:
        parts.append(f"{memory.entries_bytes_after / 2**20:.1f} MiB for entries of {memory.entry_bytes} bytes")
    if memory.hash_bytes is not None:
        parts.append(f"{memory.hash_bytes / 2**20:.1f} MiB for {memory.buckets} buckets")
    return f"; kernel memory: {', '.join(parts)}" if parts else ""


def seconds(value: float | None) -> str:
    """A time after the load's beginning."""
    return "an unknown time" if value is None else f"{value:.2f} s"


def _strangers(snapshot: Snapshot | None) -> list[str]:
    """The processes that are neither the kernel's nor the lab's: one of them may have written the max."""
    text = snapshot.texts.get("processes") if snapshot is not None else None
    found = [f"`{line.split(' ', 2)[2][:_MAX_NAME]}`" for line in (text or "").splitlines() if line.count(" ") >= 2]
    return found[:_MAX_STRANGERS] + ([f"and {len(found) - _MAX_STRANGERS} more"] if len(found) > _MAX_STRANGERS else [])


def _ports(found: LoadEntries) -> str:
    ports = tracked_ports(found)
    if not 0 < len(ports) <= _MAX_PORTS:
        return ""
    return f", to port{'s' if len(ports) > 1 else ''} {', '.join(map(str, sorted(ports)))}"


def _quoted(sample: Moment | None) -> str:
    return "none" if sample is None else f"{sample.entries} of {sample.table_max} entries"


def _times(count: int) -> str:
    return "once" if count == 1 else f"{count} times"
