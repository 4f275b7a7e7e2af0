"""What became of the connections that were not held: classes with counts, each by a counter that rose for it.

A connection tells by itself whether it was refused, closed, or left without an answer. Who dropped the packets of the
last kind only counters can tell, and each accounts for as many connections as it counted packets: a connect without an
answer sends its SYN again and again, and the kernel says how often (tcp_info). What no counter accounts for is unknown.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from lab.core.evidence import Evidence
from lab.core.judging.measured import Measured, errors_of
from lab.core.judging.rule_counters import RuleRise, rule_rises
from lab.core.judging.traffic import traffic_of
from lab.core.kernel.conntrack import mib
from lab.core.result import Loss

FULL_TABLE = "full table"
UNDER_WAY = "still under way"
UNKNOWN = "unknown"
RULE = "a rule"
FILTERED = "a filter of ports"
BACKLOG = "accept backlog"
REFUSED = "refused"
CLOSED = "closed by the other side"

# errno of a connect or an accept -> what ran out or refused
CAUSES: Mapping[str, str] = {
    "EMFILE": "file descriptors",
    "ENFILE": "file descriptors",
    "EADDRNOTAVAIL": "ephemeral ports",
    "ECONNREFUSED": REFUSED,
    "ECONNRESET": CLOSED,
    "ECONNABORTED": CLOSED,
    "EPIPE": CLOSED,
    "EHOSTUNREACH": "unreachable",
    "ENETUNREACH": "unreachable",
    "ENOBUFS": "kernel memory",
    "ENOMEM": "kernel memory",
}
# netfilter dropped it on its way out (nf_hook_slow() in net/netfilter/core.c); the connect ran into its own time limit
_UNANSWERED_ERRORS = ("EPERM", "ETIMEDOUT")
_CHANCE = 1e-6  # less is none
_MAX_PORTS = 8  # in a sentence
_LATE_SECONDS = 1.0  # before a handshake's last packet would be asked for again (TCP_TIMEOUT_INIT, include/net/tcp.h)
_QUEUE_DROPS = ("TcpExt.ListenOverflows", "TcpExt.ListenDrops", "TcpExt.TCPReqQFullDrop")


@dataclass(frozen=True)
class _Suspect:
    """Somebody who dropped packets: no more than so many, and of no more than so many connections (None is any)."""

    cause: str
    packets: int
    detail: str
    reach: int | None = None


def losses(evidence: Evidence, measured: Measured) -> tuple[Loss, ...]:
    """The classes of what was lost, the largest first; empty where nothing was."""
    load = evidence.load or {}
    counts, late = measured.connections or {}, measured.newcomers or {}
    found: list[Loss] = []
    rules = rule_rises(evidence.before, evidence.after, traffic_of(load))
    rejects = next((rule for rule in rules if rule.verdict == "reject"), None)
    for name, count in errors_of(load, "clients").items():
        if name not in _UNANSWERED_ERRORS:
            cause = CAUSES.get(name, name)
            by_rule = rejects is not None and cause in (REFUSED, "unreachable")
            rejected = f"; {_named(rejects)} rejected {rejects.packets} packets" if rejects and by_rule else ""
            found.append(Loss(cause, count, f"{name} {count} times{rejected}"))
    gone = sum(one.get("lost", 0) for one in (counts, late))
    if gone:
        found.append(Loss(CLOSED, gone, f"{gone} established connections were closed by the other side"))
    found += _unanswered(evidence, measured, [rule for rule in rules if rule.verdict != "reject"])
    merged: dict[str, Loss] = {}
    for loss in found:
        before = merged.get(loss.cause, Loss(loss.cause, 0, ""))
        detail = ", ".join(filter(None, dict.fromkeys((before.detail, loss.detail))))
        merged[loss.cause] = Loss(loss.cause, before.connections + loss.connections, detail)
    return tuple(sorted(merged.values(), key=lambda loss: -loss.connections))


def _not_held(counts: Mapping[str, int]) -> int:
    return counts.get("attempted", 0) - counts.get("held", 0)


def _unaccepted(counts: Mapping[str, int]) -> int:
    return max(0, counts.get("held", 0) - counts.get("accepted", 0))


def _unanswered(evidence: Evidence, measured: Measured, rules: Iterable[RuleRise]) -> Iterator[Loss]:
    """Connects without an answer, and those that only the client believes in: who can have dropped their packets."""
    load, counts, late = evidence.load or {}, measured.connections or {}, measured.newcomers or {}
    errors = errors_of(load, "clients")
    stalled = sum(_not_held(one) - one.get("failed", 0) - one.get("lost", 0) for one in (counts, late))
    waiting = stalled + sum(errors.get(name, 0) for name in _UNANSWERED_ERRORS)
    unaccepted = sum(_unaccepted(one) for one in (counts, late))
    examined, resent, packets_each = _stalled(load)
    out_of = {cause: count for cause, count in _accept_errors(load) if count}
    left = waiting + unaccepted + (measured.dead or 0)
    for cause, count in out_of.items():  # a listener that ran out of something accepts nothing any more
        if left:
            yield Loss(cause, left, f"an accept failed {count} times")
            left = 0
    filtered = _filtered_ports(load)
    by_port = min(left, sum(filtered.values()))
    for suspect, share in _shares(_suspects(evidence, measured, rules), left, by_port, packets_each):
        yield Loss(suspect.cause, share, suspect.detail)
        left -= share
        by_port = by_port if suspect.cause == FULL_TABLE else max(0, by_port - share)
    if by_port:
        ports = f"every connect to port {_listed(filtered)} and not those to others; no rule counted it"
        yield Loss(FILTERED, min(left, by_port), ports)
        left -= min(left, by_port)
    silent = round(stalled * (examined - resent) / examined) if examined else 0
    late_held = min(unaccepted, _just_held(evidence))
    moving = min(left, silent + late_held)
    if moving:
        waits = f"{examined - resent} of {examined} have not sent their SYN again" if silent else ""
        held = f"{late_held} were established in the load's last second" if late_held else ""
        yield Loss(UNDER_WAY, moving, ", ".join(filter(None, (waits, held))))
    if left - moving:
        detail = f"{resent} of {examined} stalled connects sent their SYN again" if stalled else ""
        ghosts = f"{unaccepted} connected and were not accepted" if unaccepted else ""
        dead = f"{measured.dead} were open and carried no byte" if measured.dead else ""
        why = ", ".join(filter(None, (detail, ghosts, dead))) or "no answer"
        yield Loss(UNKNOWN, left - moving, f"{why}; no counter rose that accounts for it{_unseen_queue(evidence)}")


def _filtered_ports(load: Mapping[str, Any]) -> dict[int, int]:
    """The ports of which no connection at all got through while those to others did, and how many were tried there.

    A client connects to all of its ports in turn, so that want of room leaves out none of them but by chance, which
    would have to strike every single try. Each client is looked at by itself: one may find the table full already.
    """
    found: dict[int, int] = {}
    for client in load.get("clients", []):
        ports = [(int(port), int(held), int(lost)) for port, held, lost in client.get("ports", [])]
        tried = sum(held + lost for _, held, lost in ports)
        missed = 1 - sum(held for _, held, _ in ports) / tried if tried else 1.0
        found |= {port: lost for port, held, lost in ports if not held and lost and missed**lost < _CHANCE}
    return found


def _listed(ports: Iterable[int]) -> str:
    shown = sorted(ports)
    more = f" and {len(shown) - _MAX_PORTS} more" if len(shown) > _MAX_PORTS else ""
    return ", ".join(map(str, shown[:_MAX_PORTS])) + more


def _shares(suspects: list[_Suspect], left: int, by_port: int, packets_each: float) -> Iterator[tuple[_Suspect, int]]:
    """How many of the connections that are left each accounts for: first those that can only have dropped packets of
    certain connections, then the others. Where these counted more than there is to explain, all of them did: a counter
    goes on after the connections were examined, and must not take what another one explains.

    `by_port` of what is left went to ports of which nothing got through: want of room strikes at all ports alike.
    """
    for suspect in (one for one in suspects if one.reach is not None):
        share = min(left, suspect.reach or 0, max(1, round(suspect.packets / packets_each)))
        if share:
            yield suspect, share
            left, by_port = left - share, max(0, by_port - share)
    others = [one for one in suspects if one.reach is None]
    explained = sum(one.packets for one in others) / packets_each
    scale = min(1.0, left / explained) if explained else 1.0
    for suspect in others:
        most = left - by_port if suspect.cause == FULL_TABLE else left
        share = min(most, max(1, round(suspect.packets / packets_each * scale)))
        if share:
            yield suspect, share
            left -= share
            by_port = min(by_port, left)


def _suspects(evidence: Evidence, measured: Measured, rules: Iterable[RuleRise]) -> list[_Suspect]:
    """Who dropped packets while the load was driven, whoever counted the most first."""
    found = [_Suspect(RULE, rule.packets, f"{_named(rule)} took {rule.packets} packets", rule.reach) for rule in rules]
    queue = _queue_drops(evidence)
    found += [queue] if queue is not None else []
    found += _table_suspects(measured)
    return sorted((one for one in found if one.packets), key=lambda one: -one.packets)


def _table_suspects(measured: Measured) -> Iterator[_Suspect]:
    steps = measured.steps
    chains = sum(step.chain_too_long or 0 for step in steps)
    yield _Suspect("hash chain too long", chains, f"{chains} entries found a hash chain too long: raise the buckets")
    clashes = sum(step.failed_inserts for step in steps)
    searched = sum(step.found or 0 for step in steps)
    ports = f"insert_failed rose by {clashes}, found by {searched}"
    yield _Suspect("no free port for NAT", clashes if searched else 0, ports)
    yield _Suspect("insert failed", 0 if searched else clashes, ports)
    # packets of a load that is known to bypass the table were not dropped for want of room in it
    bypassed = measured.load_entries == 0 and bool((measured.connections or {}).get("held"))
    room = 0 if bypassed else measured.dropped_for_room
    yield _Suspect(FULL_TABLE, room, f"drop rose by {room} while the table was full")
    for end in measured.ends:
        full = f"drop rose by {end.dropped_for_room} while the table of the namespace {end.namespace} was full"
        yield _Suspect(FULL_TABLE, end.dropped_for_room, full)
    below = sum(step.dropped_for_room for step in steps if not step.full)
    peak = measured.entries_peak
    below = 0 if bypassed else below
    yield _Suspect("conntrack drop below max", below, f"drop rose by {below}, entries reached {peak}")


def _netstat(evidence: Evidence) -> tuple[Mapping[str, int], Mapping[str, int]]:
    """The counters of TCP in the listeners' namespace, before the load and at its end; empty where one is missing."""
    counters = (evidence.load or {}).get("counters")
    if counters is not None:
        texts = [(counters[when].get("server") or {}).get("netstat") for when in ("before", "after")]
    else:
        texts = [one.texts.get("netstat") if one else None for one in (evidence.before, evidence.after)]
    before, after = map(_mib, texts)
    return (before, after) if before and after else ({}, {})


def _queue_drops(evidence: Evidence) -> _Suspect | None:
    """What the listeners' own queues dropped: by the counters of the namespace that they are in, and by their own."""
    load = evidence.load or {}
    names: dict[str, int] = {}
    before, after = _netstat(evidence)
    for name in _QUEUE_DROPS:
        if name in before and name in after and after[name] > before[name]:
            names[name] = after[name] - before[name]
    own = [server.get("drops") for server in load.get("servers", [])]
    packets = max(names.values(), default=0)
    if own and None not in own:  # the namespace may have other listeners
        packets = min(packets, sum(own))
    if not packets:
        return None
    return _Suspect(BACKLOG, packets, ", ".join(f"{name} rose by {rise}" for name, rise in names.items()))


def _unseen_queue(evidence: Evidence) -> str:
    return "" if _netstat(evidence)[0] else "; whether the accept queue overflowed is unknown"


def _mib(text: str | None) -> Mapping[str, int]:
    return mib(text) if text else {}


def _stalled(load: Mapping[str, Any]) -> tuple[int, int, float]:
    """Of the stalled connects: how many were examined, how many had sent their SYN again, and SYNs for each."""
    stalled = [client.get("stalled", {}) for client in load.get("clients", [])]
    examined, resent = (sum(one.get(name, 0) for one in stalled) for name in ("examined", "syn_retransmitted"))
    syns = sum(one.get("syns", one.get("examined", 0) + one.get("syn_retransmitted", 0)) for one in stalled)
    return examined, resent, max(1.0, syns / examined) if examined else 1.0


def _just_held(evidence: Evidence) -> int:
    """How many connections were established so late that the other side may not have heard of it yet."""
    samples = evidence.samples
    if not samples:
        return 0
    earlier = (one.held for one in samples if one.seconds <= samples[-1].seconds - _LATE_SECONDS)
    return max(0, samples[-1].held - max(earlier, default=0))


def _accept_errors(load: Mapping[str, Any]) -> Iterator[tuple[str, int]]:
    return ((CAUSES.get(name, name), count) for name, count in errors_of(load, "servers").items())


def _named(rule: RuleRise) -> str:
    return f"`{rule.rule}` of {rule.where}"
