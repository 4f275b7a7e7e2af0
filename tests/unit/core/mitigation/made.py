"""What one machine showed, made for tests: holders of each kind, and judgements."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from lab.core.holders.model import Holder
from lab.core.judging.attribution import LoadEntries, Unattributed
from lab.core.judging.finding import Finding, Measured
from lab.core.judging.proofs import Proofs
from lab.core.mitigation.judged import Judged
from lab.core.mitigation.ruleset import ListedRule
from tests.recordings import GOLDEN

CELLS = GOLDEN / "cells"
RULESETS = GOLDEN / "rulesets"

RULE = Holder(
    kind="rule",
    backend="iptables-nft",
    family="ip",
    table="nat",
    chain="POSTROUTING",
    handle=None,
    number=1,
    rule="-A POSTROUTING -j MASQUERADE",
    depends_on=("-j MASQUERADE",),
    reachable=True,
    families=("ip",),
    remove=("iptables-nft", "-t", "nat", "-D", "POSTROUTING", "-j", "MASQUERADE"),
)
OTHER = replace(
    RULE,
    backend="nft",
    table="t",
    chain="c",
    number=None,
    handle=3,
    rule="ct state new",
    remove=("nft", "delete", "rule", "ip", "t", "c", "handle", "3"),
)
STUCK = replace(OTHER, handle=None, rule="ct state invalid", remove=())
MODULE = replace(
    RULE, kind="module", backend="kernel", number=None, rule="nf_conntrack_ipv4", remove=("modprobe", "-r", "a", "b")
)
MODULE6 = replace(MODULE, rule="nf_conntrack_ipv6")
LIMIT = replace(
    RULE,
    backend="iptables-legacy",
    table="filter",
    chain="INPUT",
    number=2,
    rule="-A INPUT -p tcp -m connlimit -j DROP",
    remove=("iptables-legacy", "-t", "filter", "-D", "INPUT", "2"),
)
LISTED = ListedRule("nft", "ip", "nat", "POSTROUTING", 4, "xt target MASQUERADE")
LISTED_OTHER = ListedRule("nft", "ip", "t", "c", 3, "ct state new counter packets 3 bytes 180")
UNRELATED = ListedRule("nft", "ip", "filter", "INPUT", 9, "tcp dport 22 accept")
REMOVAL = (RULE.remove,)


FIREWALL_RULE = replace(OTHER, rule="ct state established accept", part_of_firewall=True)


def counts(lost: int, of: int = 1000) -> Mapping[str, int]:
    held = of - lost
    return {"attempted": of, "held": held, "failed": 0, "lost": 0, "accepted": held, "stalled": lost, "untried": 0}


def reached(**worked: bool | None) -> Mapping[str, Any]:
    """What a guest tells of its peers."""
    return {"attempts": [{"way": way, "port": 22, "worked": one} for way, one in worked.items() if one is not None]}


def judged(
    finding: str,
    hooks: bool | None = None,
    holders: bool | None = None,
    held_by: tuple[Holder, ...] = (),
    notrack: bool = False,
    reason: str | None = None,
    lost: int | None = None,
    entries: int | None = None,
    newcomers: Mapping[str, int] | None = None,
    rules: tuple[ListedRule, ...] | None = None,
    peer: Mapping[str, Any] | None = None,
    before: tuple[Holder, ...] | None = None,
) -> Judged:
    said = reason or f"the numbers of {finding}"
    cause = "timeout" if finding == "other-loss" else None
    if lost is None:
        lost = 900 if finding in ("table-full", "other-loss") else 0
    found = Unattributed("for a test") if entries is None else LoadEntries(2, entries, entries, 0, False)
    measured = Measured(wanted=1000, connections=counts(lost), attribution=found, newcomers=newcomers)
    listed = (LISTED,) * (RULE in held_by) + (LISTED_OTHER,) * (OTHER in held_by)
    return Judged(
        Finding(finding, said, cause, measured),
        Proofs(hooks, holders, None, held_by, notrack),
        held_by if before is None else before,
        listed if rules is None else rules,
        peer,
    )


FULL = judged("table-full", True, True, (RULE,))
TRACKED = judged("tracked", True, True, (RULE,), entries=1000)
GONE = judged("untracked", False, False)
