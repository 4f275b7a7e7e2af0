"""From the recorded texts of one machine to its holders."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace

from lab.core.holders.chains import NO_WAYS, ways
from lab.core.holders.dependents import HOOKED_FAMILIES
from lab.core.holders.iptables_listing import is_listing, listed_tables
from lab.core.holders.iptables_save import saved_tables
from lab.core.holders.model import IPTABLES_NFT, LEGACY, NFT, Dependency, Holder, Recorded, Table
from lab.core.holders.module import module_holders, option_holders, switch_holders
from lab.core.holders.nft_file import nft_tables
from lab.core.holders.nft_json import json_tables
from lab.core.holders.nft_text import text_tables
from lab.core.holders.removal import ObjectRemovals, removal_place, rule_removal
from lab.core.holders.without_hooks import ipvs_holders, ovs_holders, tc_holders
from lab.core.kernel.conntrack import modules


def holders(recorded: Recorded) -> tuple[Holder, ...]:
    """Everything that holds conntrack, in the order in which it can be removed.

    A rule of iptables-nft is in the nftables ruleset, too; it is named once, as what the user knows it by. The empty
    answer means that the recorded texts hold nothing: hooks that are attached nevertheless are a finding in itself.
    Raises `ValueError` for a text that is not what its program writes.
    """
    return tables_and_holders(recorded)[1]


def tables_and_holders(recorded: Recorded) -> tuple[tuple[Table, ...], tuple[Holder, ...]]:
    """The tables of all rulesets, each once, and the holders in them and beside them. Raises as `holders` does."""
    nft = _nft_tables(recorded)
    tables = tuple(_all_tables(recorded, nft))
    found = [holder for table in tables for holder in _table_holders(table)]
    others = [
        *ipvs_holders(recorded.ip_vs or ""),
        *tc_holders(recorded.tc_filters or ""),
        *ovs_holders(recorded.ovs_flows or ""),
    ]
    loaded = None if recorded.modules is None else modules(recorded.modules)
    switch = switch_holders(recorded.kernel, loaded or ())
    by_module = [*option_holders(recorded, loaded), *module_holders(recorded, loaded or ())]
    chains = [holder for table in nft for holder in _nat_chain_holders(table)] if by_module else []
    return tables, (*found, *others, *switch, *chains, *by_module)


def _all_tables(recorded: Recorded, nft: Sequence[Table]) -> Iterator[Table]:
    yield from _xtables(recorded.iptables_legacy, LEGACY, "ip")
    yield from _xtables(recorded.ip6tables_legacy, LEGACY, "ip6")
    saved = [
        *_xtables(recorded.iptables_nft, IPTABLES_NFT, "ip"),
        *_xtables(recorded.ip6tables_nft, IPTABLES_NFT, "ip6"),
    ]
    yield from _named_once(saved, nft)


def _xtables(text: str | None, backend: str, family: str) -> Iterable[Table]:
    """The tables of one backend and family, whether they were saved or listed."""
    if text is not None and is_listing(text):
        return listed_tables(text, backend, family)
    return saved_tables(text, backend, family)


def held_families(found: Iterable[Holder]) -> frozenset[str]:
    """The families whose hooks these holders keep attached; one that only may hold proves nothing."""
    return frozenset(family for holder in found if holder.certain and holder.hooks for family in holder.families)


def _nft_tables(recorded: Recorded) -> tuple[Table, ...]:
    """The nftables ruleset, from the JSON and the plain text together; either alone will do.

    JSON is the safer to read, but is silent about what nft had not learnt to put there: extensions of xtables and
    what a rule does with the elements of a set (both before 1.0), and a table's owner. The text has all of it.
    """
    if recorded.nft_json is None:
        return nft_tables(recorded.nft_text or "")
    try:
        by_text = text_tables(recorded.nft_text or "")
    except ValueError:  # a comment of iptables with a quotation mark is printed without escaping it
        by_text = ()
    return tuple(json_tables(recorded.nft_json, {table.key: table for table in by_text}))


def _named_once(saved: Sequence[Table], nft: Sequence[Table]) -> Iterator[Table]:
    """The tables of both views, each once: as iptables-nft-save prints it, if that shows all that holds conntrack.

    It leaves out a table that nft has put expressions into which iptables does not know, and has been seen to leave
    out single rules: then the view of nft counts.
    """
    by_nft = {table.key: (table, _dependents(table)) for table in nft}
    complete: set[tuple[str, str]] = set()
    for table in saved:
        native, dependents = by_nft.get(table.key, (None, 0))
        if native is None:
            yield table
        elif dependents <= _dependents(table):
            complete.add(table.key)
            yield replace(table, dormant=native.dormant, owner=native.owner)
    yield from (table for table in nft if table.key not in complete)


def _dependents(table: Table) -> int:
    # what a CT target does cannot be seen in the view of nft: --notrack holds nothing
    return sum(any(dependency.what != "-j CT" for dependency in rule.depends_on) for rule in table.rules)


def _table_holders(table: Table) -> Iterator[Holder]:
    holding = [place for place, rule in enumerate(table.rules) if rule.depends_on]
    led = ways(table) if holding else NO_WAYS
    for place in sorted(holding, key=lambda place: removal_place(table.rules[place])):
        rule = table.rules[place]
        yield Holder(
            kind="rule",
            backend=IPTABLES_NFT if rule.from_xtables else table.backend,
            family=table.family,
            table=table.name,
            chain=rule.chain,
            handle=rule.handle,
            number=rule.number,
            rule=rule.text,
            depends_on=_words(rule.depends_on),
            reachable=rule.chain in led.reachable,
            families=_families(table.family, rule.depends_on),
            remove=rule_removal(table, rule),
            owner=table.owner,
            certain=_certain(rule.depends_on),
            part_of_firewall=place in led.firewall,
            advice=_advice(table),
        )
    yield from _object_holders(table)


def _object_holders(table: Table) -> Iterator[Holder]:
    holding = [item for item in table.objects if item.depends_on]
    removals = ObjectRemovals(table) if holding else None
    for item in holding if removals is not None else ():
        yield Holder(
            kind="object",
            backend=table.backend,
            family=table.family,
            table=table.name,
            chain="",
            handle=item.handle,
            number=None,
            rule=item.text,
            depends_on=_words(item.depends_on),
            reachable=None,
            families=_families(table.family, item.depends_on),
            remove=removals.next(item) if removals is not None else (),
            owner=table.owner,
            advice=_advice(table),
        )


def _nat_chain_holders(table: Table) -> Iterator[Holder]:
    """Where the modules hold the hooks: the chains that keep the module of NAT in use, and so all of them loaded.

    They hold no hook themselves, so they are of no family. Rules that are left in such a chain go with it.
    """
    with_rules = {rule.chain for rule in table.rules if not rule.depends_on} if table.nat_chains else frozenset()
    for name in table.nat_chains:
        flush = ("flush", "chain", table.family, table.name, name, ";") if name in with_rules else ()
        yield Holder(
            kind="object",
            backend=NFT,
            family=table.family,
            table=table.name,
            chain=name,
            handle=None,
            number=None,
            rule=f"chain {name}",
            depends_on=("type nat",),
            reachable=None,
            families=(),
            remove=() if table.owner else (NFT, *flush, "delete", "chain", table.family, table.name, name),
            owner=table.owner,
            advice=_advice(table),
        )


def _advice(table: Table) -> str:
    return "" if table.owner is None else f"stop {table.owner}, which owns the table: nobody else may change it"


def _certain(depends_on: Iterable[Dependency]) -> bool:
    return any(dependency.certain for dependency in depends_on)


def _words(depends_on: Iterable[Dependency]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(dependency.what for dependency in depends_on))


def _families(family: str, depends_on: Iterable[Dependency]) -> tuple[str, ...]:
    given = {dependency.family or family for dependency in depends_on}
    if given == {family}:
        return HOOKED_FAMILIES.get(family, ())
    hooked = {name for one in given for name in HOOKED_FAMILIES.get(one, ())}
    return tuple(name for name in HOOKED_FAMILIES["bridge"] if name in hooked)
