"""The commands that remove what holds conntrack."""

from collections.abc import Sequence
from typing import Final

from lab.core.holders.model import IPTABLES_NFT, LEGACY, NamedObject, Rule, Table

_PROGRAMS: Final = {
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
    if rule.number is not None:  # by its words where possible: numbers shift with every rule that goes
        which = (str(rule.number),) if _by_number(rule) else rule.spec
        return (_PROGRAMS[table.backend, table.family], "-t", table.name, "-D", rule.chain, *which)
    if rule.handle is None:
        return ()
    return ("nft", "delete", "rule", table.family, table.name, rule.chain, "handle", str(rule.handle))


def in_order_of_removal(rules: Sequence[Rule]) -> list[Rule]:
    """Those that go by their number first, the last of them before the others, so that the numbers stay right."""
    return sorted(rules, key=lambda rule: -(rule.number or 0) if _by_number(rule) and rule.spec else 1)


def object_removal(table: Table, item: NamedObject, gone: set[tuple[str, ...]]) -> tuple[str, ...]:
    """An object goes with what uses it, in one transaction; the rules that hold conntrack are gone by then.

    A set is used by rules, an object by the maps that name it. `gone` is what earlier commands took along: nothing can
    be deleted twice. It is added to.
    """
    rules = [rule for rule in table.rules if f"@{item.name}" in rule.leads_to and not rule.depends_on]
    if any(rule.handle is None for rule in rules):
        return ()
    maps = [one for one in table.objects if one.values == item.kind]
    users = [
        *(rule_removal(table, rule)[1:] for rule in rules),
        *(("delete", "map", table.family, table.name, one.name) for one in maps),
    ]
    users = [user for user in users if user not in gone]
    gone.update(users)
    delete = ("delete", *item.kind.split(), table.family, table.name, item.name)
    return ("nft", *(word for user in users for word in (*user, ";")), *delete)
