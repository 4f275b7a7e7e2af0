"""Where packets go inside of a table: which chains they can come to, and which rules let them pass what follows."""

from collections.abc import Callable, Iterable, Iterator, Mapping

from lab.core.holders.model import Rule, Table

# A chain by its name; a set or map of nftables, whose verdicts lead on, by its name behind this.
_Node = tuple[str, str]
_Graph = Mapping[_Node, set[_Node]]


def reachable_chains(table: Table) -> frozenset[str]:
    """The chains that a packet can come to: those with a hook, and what they lead to; none in a dormant table."""
    if table.dormant or not table.hooked:
        return frozenset()
    reached = _closure(_graph(table), (_chain(name) for name in table.hooked))
    return frozenset(name for kind, name in reached if kind == "chain")


def firewall_rules(table: Table, reachable: frozenset[str]) -> frozenset[int]:
    """The places in `table.rules` of those that accept, by themselves or in a chain that they lead to, what the policy
    or a later rule would drop or reject: of the same chain, or of one that leads to it."""
    if not (table.dropping or any(rule.drops for rule in table.rules)):
        return frozenset()
    graph = _graph(table)
    backwards: dict[_Node, set[_Node]] = {}
    for node, targets in graph.items():
        for target in targets:
            backwards.setdefault(target, set()).add(node)
    accepting = _closure(backwards, _chains_with(table.rules, lambda rule: rule.accepts))
    dropping = _closure(backwards, _chains_with(table.rules, lambda rule: rule.drops))
    last_drop = {
        rule.chain: place
        for place, rule in enumerate(table.rules)
        if rule.drops or not dropping.isdisjoint(_targets(rule))
    }
    drops_follow = {_chain(name) for name in table.dropping}
    for place, rule in enumerate(table.rules):
        if last_drop.get(rule.chain, -1) > place:
            drops_follow.update(_targets(rule))
    followed = _closure(graph, drops_follow)
    return frozenset(
        place
        for place, rule in enumerate(table.rules)
        if rule.chain in reachable
        and (rule.accepts or not accepting.isdisjoint(_targets(rule)))
        and (_chain(rule.chain) in followed or last_drop.get(rule.chain, -1) > place)
    )


def _chain(name: str) -> _Node:
    return "chain", name


def _targets(rule: Rule) -> Iterator[_Node]:
    yield from (("chain", name) for name in rule.leads_to)
    yield from (("map", name) for name in rule.looks_into)


def _graph(table: Table) -> _Graph:
    """What leads where, each arrow once: a map that many rules look into keeps its own."""
    graph: dict[_Node, set[_Node]] = {}
    for rule in table.rules:
        if rule.leads_to or rule.looks_into:
            graph.setdefault(_chain(rule.chain), set()).update(_targets(rule))
    for name, chains in table.maps.items():
        graph.setdefault(("map", name), set()).update(map(_chain, chains))
    return graph


def _chains_with(rules: Iterable[Rule], holds: Callable[[Rule], bool]) -> Iterator[_Node]:
    return (_chain(rule.chain) for rule in rules if holds(rule))


def _closure(graph: _Graph, start: Iterable[_Node]) -> set[_Node]:
    reached: set[_Node] = set()
    waiting = list(start)
    while waiting:
        node = waiting.pop()
        if node not in reached:
            reached.add(node)
            waiting.extend(graph.get(node, ()))
    return reached
