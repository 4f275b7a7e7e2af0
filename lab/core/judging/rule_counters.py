"""Rules that drop or reject, by their own counters: how many packets each took between the two records of the rulesets.

Read from what `iptables-save -c` and `nft -j list ruleset` print. A rule of nftables without a counter statement counts
nothing, and so is no evidence. A rule that cannot match the load's packets is left out.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from lab.core.evidence import Snapshot
from lab.core.judging.traffic import Traffic, iptables_options, match_of, nft_options, translates, without_addresses

_SAVES: Final[Mapping[str, Sequence[tuple[str, str]]]] = {
    "ip": (("iptables-legacy-save", "iptables-legacy"), ("iptables-nft-save", "iptables-nft")),
    "ip6": (("ip6tables-legacy-save", "ip6tables-legacy"), ("ip6tables-nft-save", "ip6tables-nft")),
}
_COUNTED_RULE: Final = re.compile(r"\[(?P<packets>\d{1,20}):\d{1,20}\] -A (?P<chain>\S+) (?P<spec>.*)")
_POLICY: Final = re.compile(r":(?P<chain>\S+) DROP \[(?P<packets>\d{1,20}):\d{1,20}\]")
_VERDICT: Final = re.compile(r"(?:^| )-j (?P<verdict>DROP|REJECT|TARPIT|NFQUEUE)(?: |$)")
_QUOTED: Final = re.compile(r'"(?:[^"\\]|\\.)*"')
_MAX_RULE: Final = 200  # characters of a rule in a sentence

_NFT_NAT: Final = frozenset({"snat", "dnat", "masquerade", "redirect"})

Json = Mapping[str, Any]
Key = tuple[str, str, str]  # where, rule, verdict


@dataclass(frozen=True)
class RuleRise:
    """A rule or a policy that took packets while the load was there."""

    where: str  # iptables-nft filter INPUT
    rule: str
    verdict: str  # drop, reject, policy
    packets: int
    reach: int | None = None  # how many of the load's connections have a port that the rule names; None is any


def rule_rises(before: Snapshot | None, after: Snapshot | None, traffic: Traffic) -> tuple[RuleRise, ...]:
    """The rules whose counters rose, the most packets first. A text that was not recorded has none."""
    if before is None or after is None:
        return ()
    if any(changes_addresses(snapshot, traffic) for snapshot in (before, after)):
        traffic = without_addresses(traffic)
    reaches: dict[Key, int | None] = {}
    earlier, later = (_counters(snapshot, traffic, reaches) for snapshot in (before, after))
    found = []
    for key, packets in later.items():
        where, rule, verdict = key
        # less than before: the rule was made again meanwhile, and began at 0
        rise = packets - earlier[key] if packets >= earlier[key] else packets
        if rise:
            found.append(RuleRise(where, rule[:_MAX_RULE], verdict, rise, reaches[key]))
    return tuple(sorted(found, key=lambda one: -one.packets))


def changes_addresses(snapshot: Snapshot | None, traffic: Traffic) -> bool:
    """Whether a rule may change the addresses or ports of the load's packets."""
    texts = snapshot.texts if snapshot is not None else {}
    lines = (line for name, _ in _saves(traffic) for line in (texts.get(name) or "").splitlines())
    by_nft = _nft_rules(texts.get("ruleset.json"), _tables(texts), traffic)
    return any(translates(line, traffic) for line in lines) or any(
        match_of(nft_options(expressions), traffic).possible
        for _, expressions in by_nft
        if any(_NFT_NAT & one.keys() for one in expressions)
    )


def _saves(traffic: Traffic) -> Iterator[tuple[str, str]]:
    return (save for family in ("ip", "ip6") if family in traffic.families for save in _SAVES[family])


def _tables(texts: Mapping[str, str]) -> frozenset[tuple[str, str]]:
    """The tables that iptables-nft prints, by family and name: they are in nft's list of rules, too."""
    return frozenset(
        (family, line[1:])
        for family, saves in _SAVES.items()
        for line in (texts.get(saves[1][0]) or "").splitlines()
        if line.startswith("*")
    )


def _counters(snapshot: Snapshot, traffic: Traffic, reaches: dict[Key, int | None]) -> Counter[Key]:
    counters: Counter[Key] = Counter()
    for name, program in _saves(traffic):
        table = ""
        for line in (snapshot.texts.get(name) or "").splitlines():
            if line.startswith("*"):
                table = line[1:]
            elif found := _counted(line, traffic):
                chain, rule, verdict, packets, reach = found
                key = f"{program} {table} {chain}", rule, verdict
                counters[key] += packets
                reaches[key] = reach
    for key, packets, reach in _nft_counters(snapshot.texts.get("ruleset.json"), _tables(snapshot.texts), traffic):
        counters[key] += packets
        reaches[key] = reach
    return counters


def _counted(line: str, traffic: Traffic) -> tuple[str, str, str, int, int | None] | None:
    """Chain, rule, verdict, packets and reach of a line that drops or rejects what may be the load's."""
    if policy := _POLICY.fullmatch(line):
        return policy["chain"], f"policy DROP of {policy['chain']}", "policy", int(policy["packets"]), None
    rule = _COUNTED_RULE.fullmatch(line)
    if rule is None:
        return None
    bare = _QUOTED.sub('""', rule["spec"])  # a comment may say anything
    verdict = _VERDICT.search(bare)
    if verdict is None:
        return None
    match = match_of(iptables_options(bare), traffic)
    kind = "reject" if verdict["verdict"] == "REJECT" else "drop"
    if not match.possible:
        return None
    return rule["chain"], f"-A {rule['chain']} {rule['spec']}", kind, int(rule["packets"]), match.reach


def _nft_counters(
    text: str | None, by_iptables: frozenset[tuple[str, str]], traffic: Traffic
) -> Iterator[tuple[Key, int, int | None]]:
    """The counted rules of nftables itself that drop or reject what may be the load's."""
    for rule, expressions in _nft_rules(text, by_iptables, traffic):
        verdict = next((key for one in expressions for key in ("drop", "reject", "queue") if key in one), None)
        counter = next((one["counter"] for one in expressions if isinstance(one.get("counter"), dict)), None)
        match = match_of(nft_options(expressions), traffic)
        if verdict is not None and counter is not None and isinstance(counter.get("packets"), int) and match.possible:
            where = f"nft {rule['family']} {rule.get('table')} {rule.get('chain')}"
            kind = "reject" if verdict == "reject" else "drop"
            yield (where, f"the rule with handle {rule.get('handle')}", kind), counter["packets"], match.reach


def _nft_rules(
    text: str | None, by_iptables: frozenset[tuple[str, str]], traffic: Traffic
) -> Iterator[tuple[Json, list[Json]]]:
    """Rules of nftables with their expressions, but for those that were read from what iptables-nft prints."""
    for item in _items(text):
        rule = item.get("rule")
        if not isinstance(rule, dict) or rule.get("family") not in (*traffic.families, "inet", "netdev", "bridge"):
            continue
        if (str(rule["family"]), str(rule.get("table"))) in by_iptables:
            continue
        yield rule, [one for one in rule.get("expr", []) if isinstance(one, dict)]


def _items(text: str | None) -> Sequence[Json]:
    start = re.search(r"^\{", text or "", re.MULTILINE)  # nft may write warnings before it
    try:
        items = json.loads((text or "")[start.start() :])["nftables"] if start else []
    except (ValueError, KeyError, TypeError, RecursionError):
        return ()
    return [item for item in items if isinstance(item, dict)] if isinstance(items, list) else ()
