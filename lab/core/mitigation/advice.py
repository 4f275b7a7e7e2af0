"""What people are told beside an outcome: how a command of the guest is used on a host, and what to do instead."""

from __future__ import annotations

import shlex
from collections.abc import Iterator

from lab.core.mitigation.removal import Removal, deleted_by_handle

_INSTEAD = (
    "instead of removing a part of a firewall: raise nf_conntrack_max above what the load needs",
    "or keep the load's packets out of conntrack with notrack (`-t raw -j CT --notrack`, or in nft a chain of "
    "priority raw), and accept their answers by port",
    "or replace the whole ruleset, its policy and the rules that drop, by one that needs no connection tracking",
)
_MOST_PLACES = 10  # for which the report says how to find them


def advice(removal: Removal) -> tuple[str, ...]:
    """What else to know before the removal is done on a host, a sentence for each."""
    return (*(_INSTEAD if removal.kept else ()), *dict.fromkeys(_places(removal)))


def _places(removal: Removal) -> Iterator[str]:
    for holder in removal.removed[:_MOST_PLACES]:
        for family, table, chain, _ in deleted_by_handle(holder.remove):
            yield f"handles are the guest's own; on a host {_find(family, table, chain)}"
        if holder.number is not None and holder.remove[-1] == str(holder.number):
            listing = shlex.join((holder.remove[0], "-t", holder.table, "-S", holder.chain))
            yield f"numbers are those of this state; on a host `{listing}` prints the rules from number 1 on"


def _find(family: str, table: str, chain: str) -> str:
    listing = shlex.join(("nft", "-a", "list", "chain", family, table, chain))
    return f"find the rule with `{listing}`, and take the number behind its `# handle`"
