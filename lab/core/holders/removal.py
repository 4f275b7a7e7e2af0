"""The command that removes each holder of conntrack."""

from typing import Final

from lab.core.holders.model import IPTABLES_NFT, LEGACY, NFT, NamedObject, Rule, Table

# the program of a backend and family
PROGRAMS: Final = {
    (LEGACY, "ip"): "iptables-legacy",
    (LEGACY, "ip6"): "ip6tables-legacy",
    (IPTABLES_NFT, "ip"): "iptables-nft",
    (IPTABLES_NFT, "ip6"): "ip6tables-nft",
}

# iptables -D does not find a rule with one of these again by its words (seen with 1.8.9 and 1.8.11, both backends).
_REMOVED_BY_NUMBER: Final = frozenset({"-m connlimit"})


def _by_number(rule: Rule) -> bool:
    return any(dependency.what in _REMOVED_BY_NUMBER for dependency in rule.depends_on)


def rule_removal(table: Table, rule: Rule) -> tuple[str, ...]:
    """The command that removes a rule; () for one without a handle, or in a table that has an owner."""
    if table.owner is not None:
        return ()
    if rule.number is not None:  # by its words where possible: numbers shift with every rule that goes
        which = (str(rule.number),) if _by_number(rule) else rule.spec
        return (PROGRAMS[table.backend, table.family], "-t", table.name, "-D", rule.chain, *which)
    if rule.handle is None:
        return ()
    return (NFT, "delete", "rule", table.family, table.name, rule.chain, "handle", str(rule.handle))


def removal_place(rule: Rule) -> int:
    """By what rules are sorted for removal: those that go by their number first, the last of them before the others,
    so that the numbers stay right."""
    return -(rule.number or 0) if _by_number(rule) and rule.spec else 1


class ObjectRemovals:
    """The commands that remove a table's objects, in their order: what one takes along, no later one deletes again."""

    def __init__(self, table: Table) -> None:
        self._table = table
        self._rules: dict[str, list[Rule]] = {}  # by the set that they look into
        for rule in table.rules:
            for name in rule.looks_into if not rule.depends_on else ():
                self._rules.setdefault(name, []).append(rule)
        self._maps: dict[str, list[str]] = {}  # by the kind of object that their elements name
        for item in table.objects:
            if item.values:
                self._maps.setdefault(item.values, []).append(item.name)
        self._gone: set[tuple[str, ...]] = set()

    def next(self, item: NamedObject) -> tuple[str, ...]:
        """An object goes with what uses it, in one transaction; the rules that hold conntrack are gone by then.

        A set is used by rules, an object by the maps that name it.
        """
        table = self._table
        rules = self._rules.get(item.name, [])
        if table.owner is not None or any(rule.handle is None for rule in rules):
            return ()
        maps = self._maps.pop(item.kind, [])
        users = [
            *(rule_removal(table, rule)[1:] for rule in rules),
            *(("delete", "map", table.family, table.name, name) for name in maps),
        ]
        users = [user for user in users if user not in self._gone]
        self._gone.update(users)
        delete = ("delete", *item.kind.split(), table.family, table.name, item.name)
        return (NFT, *(word for user in users for word in (*user, ";")), *delete)
