"""Where packets go inside of a table: which chains they can come to, and which rules let them pass what follows."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Final

from lab.core.holders.model import Rule, Table

# A chain by its name; a set or map of nftables, whose verdicts lead on, as a pair with its name.
_Node = str | tuple[str, str]
_Graph = Mapping[_Node, set[_Node]]


@dataclass(frozen=True)
class Ways:
    """What is known of a table's chains and rules from where they lead."""

    reachable: frozenset[str]  # the chains that a packet can come to; none in a dormant table
    firewall: frozenset[int]  # the places in `rules` of those that accept what would be dropped or rejected after them


NO_WAYS: Final = Ways(frozenset(), frozenset())


def ways(table: Table) -> Ways:
    """Follow the jumps of a table."""
    if table.dormant or not table.hooked:
        return NO_WAYS
    graph = _graph(table)
    reached = _closure(graph, table.hooked)
    reachable = frozenset(node for node in reached if isinstance(node, str))
    return Ways(reachable, _firewall(table, graph, reachable))


def _firewall(table: Table, graph: _Graph, reachable: frozenset[str]) -> frozenset[int]:
    """Rules that accept, by themselves or in a chain that they lead to, what the policy or a later rule would drop or
    reject: of the same chain, or of one that leads to it."""
    if not (table.dropping or any(rule.drops for rule in table.rules)):
        return frozenset()
    backwards: dict[_Node, set[_Node]] = {}
    for node, targets in graph.items():
        for target in targets:
            backwards.setdefault(target, set()).add(node)
    accepting = _closure(backwards, _chains_with(table.rules, lambda rule: rule.accepts))
    dropping = _closure(backwards, _chains_with(table.rules, lambda rule: rule.drops))
    leads = [_targets(rule) for rule in table.rules]
    last_drop = {
        rule.chain: place
        for place, rule in enumerate(table.rules)
        if rule.drops or not dropping.isdisjoint(leads[place])
    }
    before_drop = [last_drop.get(rule.chain, -1) > place for place, rule in enumerate(table.rules)]
    drops_follow: set[_Node] = set(table.dropping)
    drops_follow.update(*(leads[place] for place, applies in enumerate(before_drop) if applies))
    followed = _closure(graph, drops_follow)
    return frozenset(
        place
        for place, rule in enumerate(table.rules)
        if rule.chain in reachable
        and (rule.accepts or not accepting.isdisjoint(leads[place]))
        and (before_drop[place] or rule.chain in followed)
    )


def _targets(rule: Rule) -> frozenset[_Node]:
    chains: frozenset[_Node] = rule.leads_to
    return chains | {("map", name) for name in rule.looks_into} if rule.looks_into else chains


def _graph(table: Table) -> _Graph:
    """What leads where, each arrow once: a map that many rules look into keeps its own."""
    graph: dict[_Node, set[_Node]] = {}
    for rule in table.rules:
        if rule.leads_to or rule.looks_into:
            graph.setdefault(rule.chain, set()).update(_targets(rule))
    for name, chains in table.maps.items():
        graph.setdefault(("map", name), set()).update(chains)
    return graph


def _chains_with(rules: Iterable[Rule], holds: Callable[[Rule], bool]) -> set[_Node]:
    return {rule.chain for rule in rules if holds(rule)}


def _closure(graph: _Graph, start: Iterable[_Node]) -> set[_Node]:
    reached: set[_Node] = set()
    waiting = list(start)
    while waiting:
        node = waiting.pop()
        if node not in reached:
            reached.add(node)
            waiting.extend(graph.get(node, ()))
    return reached
