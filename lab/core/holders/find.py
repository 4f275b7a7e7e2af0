"""From the recorded texts of one machine to its holders."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace

from lab.core.conntrack import modules
from lab.core.holders.dependents import HOOKED_FAMILIES
from lab.core.holders.iptables_save import saved_tables
from lab.core.holders.model import IPTABLES_NFT, LEGACY, NFT, Dependency, Holder, Recorded, Table
from lab.core.holders.module import module_holders, option_holders
from lab.core.holders.nft_json import json_tables
from lab.core.holders.nft_text import text_tables
from lab.core.holders.removal import in_order_of_removal, object_removal, rule_removal


def holders(recorded: Recorded) -> tuple[Holder, ...]:
    """Everything that holds conntrack, in the order in which it can be removed.

    A rule of iptables-nft is in the nftables ruleset, too; it is named once, as what the user knows it by. The empty
    answer means that the recorded texts hold nothing: hooks that are attached nevertheless are a finding in itself.
    Raises `ValueError` for a text that is not what its program writes.
    """
    nft = _nft_tables(recorded)
    legacy = [
        *saved_tables(recorded.iptables_legacy, LEGACY, "ip"),
        *saved_tables(recorded.ip6tables_legacy, LEGACY, "ip6"),
    ]
    saved = [
        *saved_tables(recorded.iptables_nft, IPTABLES_NFT, "ip"),
        *saved_tables(recorded.ip6tables_nft, IPTABLES_NFT, "ip6"),
    ]
    tables = [*legacy, *_named_once(saved, nft)]
    found = [holder for table in tables for holder in _table_holders(table)]
    loaded = None if recorded.modules is None else modules(recorded.modules)
    by_module = [*option_holders(recorded, loaded), *module_holders(recorded.kernel, loaded or ())]
    chains = [holder for table in nft for holder in _nat_chain_holders(table)] if by_module else []
    return (*found, *chains, *by_module)


def held_families(found: Iterable[Holder]) -> frozenset[str]:
    """The families whose hooks these holders keep attached."""
    return frozenset(family for holder in found for family in holder.families)


def _nft_tables(recorded: Recorded) -> tuple[Table, ...]:
    """The nftables ruleset, from the JSON and the plain text together; either alone will do.

    JSON is the safer to read, but is silent about what nft had not learnt to put there: extensions of xtables and
    what a rule does with the elements of a set (both before 1.0). The text has all of it.
    """
    if recorded.nft_json is None:
        return text_tables(recorded.nft_text or "")
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
    by_nft = {table.key: table for table in nft}
    complete: set[tuple[str, str]] = set()
    for table in saved:
        native = by_nft.get(table.key)
        if native is None or _dependents(native) <= _dependents(table):
            complete.add(table.key)
            yield replace(table, dormant=native is not None and native.dormant)
    yield from (table for table in nft if table.key not in complete)


def _dependents(table: Table) -> int:
    # what a CT target does cannot be seen in the view of nft: --notrack holds nothing
    return sum(any(dependency.what != "-j CT" for dependency in rule.depends_on) for rule in table.rules)


def _reachable_chains(table: Table) -> frozenset[str]:
    """The chains that a packet can come to: those with a hook, and what they lead to; none in a dormant table."""
    if table.dormant:
        return frozenset()
    leads_to: dict[str, set[str]] = {}
    for rule in table.rules:
        chains = {name for name in rule.leads_to if not name.startswith("@")}
        looked_up = (table.maps.get(name[1:], frozenset()) for name in rule.leads_to if name.startswith("@"))
        leads_to.setdefault(rule.chain, set()).update(chains, *looked_up)
    reached: set[str] = set()
    waiting = list(table.hooked)
    while waiting:
        chain = waiting.pop()
        if chain not in reached:
            reached.add(chain)
            waiting.extend(leads_to.get(chain, ()))
    return frozenset(reached)


def _table_holders(table: Table) -> Iterator[Holder]:
    reachable = _reachable_chains(table)
    for rule in in_order_of_removal(table.rules):
        if rule.depends_on:
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
                reachable=rule.chain in reachable,
                families=_families(table.family, rule.depends_on),
                remove=rule_removal(table, rule),
            )
    gone: set[tuple[str, ...]] = set()
    for item in table.objects:
        if item.depends_on:
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
                remove=object_removal(table, item, gone),
            )


def _nat_chain_holders(table: Table) -> Iterator[Holder]:
    """Where the modules hold the hooks: the chains that keep the module of NAT in use, and so all of them loaded.

    They hold no hook themselves, so they are of no family. Rules that are left in such a chain go with it.
    """
    for name in table.nat_chains:
        left = any(rule.chain == name and not rule.depends_on for rule in table.rules)
        flush = ("flush", "chain", table.family, table.name, name, ";") if left else ()
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
            remove=("nft", *flush, "delete", "chain", table.family, table.name, name),
        )


def _words(depends_on: Iterable[Dependency]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(dependency.what for dependency in depends_on))


def _families(family: str, depends_on: Iterable[Dependency]) -> tuple[str, ...]:
    hooked = {name for dependency in depends_on for name in HOOKED_FAMILIES.get(dependency.family or family, ())}
    return tuple(name for name in HOOKED_FAMILIES["bridge"] if name in hooked)
