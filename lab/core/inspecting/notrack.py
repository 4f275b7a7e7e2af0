"""Rules that keep packets out of conntrack although it is attached: all packets of a family, or some."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Final

from lab.core.holders import HOOKED_FAMILIES, NFT, Table
from lab.core.holders.model import Rule

_EVERYTHING: Final = frozenset({("-j", "CT", "--notrack"), ("-j", "NOTRACK")})
_NFT_EVERYTHING: Final = re.compile(r"(?:counter packets \d+ bytes \d+ )?notrack")
_JSON_EVERYTHING: Final = re.compile(r'\[(?:\{"counter":\{[^{}]*\}\},)?\{"notrack":null\}\]')
_RAW_CHAINS: Final = {"PREROUTING": "prerouting", "OUTPUT": "output"}
_HOOKS: Final = frozenset(_RAW_CHAINS.values())  # all packets come through one of them, before conntrack
_CONNTRACK: Final = -200  # its priority there (NF_IP_PRI_CONNTRACK, linux/netfilter_ipv4.h)
_BRIDGE: Final = "bridge"  # whose hooks have other priorities


@dataclass(frozen=True)
class KeptOut:
    """What such rules keep out."""

    whole: frozenset[str] = frozenset()  # the families of which no packet is tracked
    doubtful: frozenset[str] = frozenset()  # those of which perhaps none is: at which hook a rule stands is not known


def kept_out(tables: Iterable[Table]) -> KeptOut:
    """The families of which every packet meets a rule of notrack without conditions, before conntrack."""
    hooks: dict[str, set[str | None]] = {}
    for table in tables:
        places = set(_places(table))
        for family in HOOKED_FAMILIES.get(table.family, ()):
            hooks.setdefault(family, set()).update(places)
    whole = {family for family, found in hooks.items() if found >= _HOOKS}
    return KeptOut(frozenset(whole), frozenset(family for family, found in hooks.items() if None in found) - whole)


def _places(table: Table) -> Iterator[str | None]:
    """The hooks at which a table has such a rule before conntrack; None for one of which that is not known."""
    first = {rule.chain: rule for rule in reversed(table.rules)}
    for chain in table.hooked:
        if table.dormant or not _everything(first.get(chain)):
            continue
        place = table.places.get(chain)
        if table.backend != NFT:
            if table.name == "raw" and chain in _RAW_CHAINS:
                yield _RAW_CHAINS[chain]
        elif place is None or table.family == _BRIDGE:
            yield None
        elif place.priority < _CONNTRACK:
            yield place.hook


def _everything(rule: Rule | None) -> bool:
    """Whether the first rule of a chain is one without conditions; what stands behind another is not judged."""
    if rule is None:
        return False
    return rule.spec in _EVERYTHING or any(form.fullmatch(rule.text) for form in (_NFT_EVERYTHING, _JSON_EVERYTHING))
