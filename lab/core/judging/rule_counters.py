"""Rules that drop or reject, by their own counters: how many packets each took between the two records of the rulesets.

Read from what `iptables-save -c` and `nft -j list ruleset` print. A rule of nftables without a counter statement counts
nothing, and so is no evidence. A rule that cannot match the load's packets is left out.
"""

from __future__ import annotations

import ipaddress
import json
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from lab.core.evidence import Snapshot

_SAVES: Final = (("iptables-legacy-save", "iptables-legacy"), ("iptables-nft-save", "iptables-nft"))
_COUNTED_RULE: Final = re.compile(r"\[(?P<packets>\d{1,20}):\d{1,20}\] -A (?P<chain>\S+) (?P<spec>.*)")
_POLICY: Final = re.compile(r":(?P<chain>\S+) DROP \[(?P<packets>\d{1,20}):\d{1,20}\]")
_VERDICT: Final = re.compile(r"(?:^| )-j (?P<verdict>DROP|REJECT|TARPIT|NFQUEUE)(?: |$)")
_OPTION: Final = re.compile(r"(?P<not>! )?(?P<name>-p|-s|-d|-i|-o|--dport|--sport) (?P<value>\S+)")
_QUOTED: Final = re.compile(r'"(?:[^"\\]|\\.)*"')
_MAX_RULE: Final = 200  # characters of a rule in a sentence

Key = tuple[str, str, str]  # where, rule, verdict


@dataclass(frozen=True)
class Traffic:
    """What the load's packets look like, as far as a rule can tell them."""

    protocols: frozenset[str]
    networks: tuple[ipaddress.IPv4Network, ...]
    ports: frozenset[int]
    loopback: bool


@dataclass(frozen=True)
class RuleRise:
    """A rule or a policy that took packets while the load was there."""

    where: str  # iptables-nft filter INPUT
    rule: str
    verdict: str  # drop, reject, policy
    packets: int


def rule_rises(before: Snapshot | None, after: Snapshot | None, traffic: Traffic) -> tuple[RuleRise, ...]:
    """The rules whose counters rose, the most packets first. A text that was not recorded has none."""
    if before is None or after is None:
        return ()
    earlier, later = (_counters(snapshot, traffic) for snapshot in (before, after))
    found = []
    for key, packets in later.items():
        where, rule, verdict = key
        # less than before: the rule was made anew meanwhile, and began at 0
        rise = packets - earlier[key] if packets >= earlier[key] else packets
        if rise:
            found.append(RuleRise(where, rule[:_MAX_RULE], verdict, rise))
    return tuple(sorted(found, key=lambda one: -one.packets))


def _counters(snapshot: Snapshot, traffic: Traffic) -> Counter[Key]:
    counters: Counter[Key] = Counter()
    by_iptables: set[tuple[str, str]] = set()
    for name, program in _SAVES:
        table = ""
        for line in (snapshot.texts.get(name) or "").splitlines():
            if line.startswith("*"):
                table = line[1:]
                by_iptables.add((program, table))
            elif found := _counted(line, traffic):
                chain, rule, verdict, packets = found
                counters[f"{program} {table} {chain}", rule, verdict] += packets
    for key, packets in _nft_counters(snapshot.texts.get("ruleset.json"), by_iptables):
        counters[key] += packets
    return counters


def _counted(line: str, traffic: Traffic) -> tuple[str, str, str, int] | None:
    """Chain, rule, verdict and packets of a line that drops or rejects what may be the load's."""
    if policy := _POLICY.fullmatch(line):
        return policy["chain"], f"policy DROP of {policy['chain']}", "policy", int(policy["packets"])
    rule = _COUNTED_RULE.fullmatch(line)
    if rule is None:
        return None
    bare = _QUOTED.sub('""', rule["spec"])  # a comment may say anything
    verdict = _VERDICT.search(bare)
    if verdict is None or not _can_match(bare, traffic):
        return None
    kind = "reject" if verdict["verdict"] == "REJECT" else "drop"
    return rule["chain"], f"-A {rule['chain']} {rule['spec']}", kind, int(rule["packets"])


def _can_match(spec: str, traffic: Traffic) -> bool:
    """Whether a rule may take a packet of the load. What is not understood may."""
    return all(found["not"] or _fits(found["name"], found["value"], traffic) for found in _OPTION.finditer(spec))


def _fits(option: str, value: str, traffic: Traffic) -> bool:
    if option == "-p":
        return value in traffic.protocols or value == "all"
    if option in ("-s", "-d"):
        try:
            network = ipaddress.IPv4Network(value, strict=False)
        except ValueError:
            return True
        return any(network.overlaps(one) for one in traffic.networks)
    if option in ("-i", "-o"):
        return not traffic.loopback or value in ("lo", "+", "l+", "lo+")
    first, _, last = value.partition(":")
    if option == "--sport" or not (first.isdigit() and (last or first).isdigit()):
        return True  # the load's packets come from any port, and go back from those that it listens on
    low, high = int(first), int(last or first)
    return not traffic.ports or high >= _EPHEMERAL or any(low <= port <= high for port in traffic.ports)


_EPHEMERAL: Final = 32768  # answers go to such ports


def _nft_counters(text: str | None, by_iptables: set[tuple[str, str]]) -> Iterator[tuple[Key, int]]:
    """The counted rules of nftables itself: those of iptables-nft were read from what that prints."""
    for item in _items(text):
        rule = item.get("rule")
        if not isinstance(rule, dict) or rule.get("family") not in ("ip", "inet", "netdev"):
            continue
        if rule["family"] == "ip" and ("iptables-nft", rule.get("table")) in by_iptables:
            continue
        expressions = [one for one in rule.get("expr", []) if isinstance(one, dict)]
        verdict = next((key for one in expressions for key in ("drop", "reject", "queue") if key in one), None)
        counter = next((one["counter"] for one in expressions if isinstance(one.get("counter"), dict)), None)
        if verdict is not None and counter is not None and isinstance(counter.get("packets"), int):
            where = f"nft {rule['family']} {rule.get('table')} {rule.get('chain')}"
            kind = "reject" if verdict == "reject" else "drop"
            yield (where, f"the rule with handle {rule.get('handle')}", kind), counter["packets"]


def _items(text: str | None) -> Sequence[Mapping[str, Any]]:
    start = re.search(r"^\{", text or "", re.MULTILINE)  # nft may write warnings before it
    try:
        items = json.loads((text or "")[start.start() :])["nftables"] if start else []
    except (ValueError, KeyError, TypeError, RecursionError):
        return ()
    return [item for item in items if isinstance(item, dict)] if isinstance(items, list) else ()
