"""Rules that keep packets out of conntrack although it is attached: all packets of a family, or some."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Final

from lab.core.holders.dependents import HOOKED_FAMILIES
from lab.core.holders.model import NFT, Table

# the forms of a rule that matches a protocol at most, in the words of iptables, of nft, and of its JSON
_XTABLES: Final = re.compile(r"(?:-p (?P<protocol>tcp|udp) )?(?:-m (?:tcp|udp) )?-j (?:CT --notrack|NOTRACK)")
_NFT: Final = re.compile(
    r"(?:(?:meta l4proto|ip protocol|ip6 nexthdr) (?P<protocol>tcp|udp) )?(?:counter packets \d+ bytes \d+ )?notrack"
)
_JSON: Final = re.compile(r'\[(?:\{"counter":\{[^{}]*\}\},)?\{"notrack":null\}\]')
_RAW_CHAINS: Final = {"PREROUTING": "prerouting", "OUTPUT": "output"}
_HOOKS: Final = frozenset(_RAW_CHAINS.values())  # all packets come through one of them, before conntrack
_CONNTRACK: Final = -200  # its priority there (NF_IP_PRI_CONNTRACK, linux/netfilter_ipv4.h)
_BRIDGE: Final = "bridge"  # whose hooks have other priorities
_ALL: Final = ""  # in the place of a protocol


@dataclass(frozen=True)
class KeptOut:
    """What such rules keep out."""

    whole: frozenset[str] = frozenset()  # the families of which no packet is tracked
    doubtful: frozenset[str] = frozenset()  # those of which perhaps none is: at which hook a rule stands is not known
    parts: frozenset[tuple[str, str]] = frozenset()  # a family and a protocol of it of which no packet is tracked

    def protocols(self, families: Iterable[str]) -> tuple[str, ...]:
        """The protocols of which no packet is tracked in any of these families."""
        return tuple(
            protocol for protocol in ("tcp", "udp") if all((family, protocol) in self.parts for family in families)
        )


def kept_out(tables: Iterable[Table]) -> KeptOut:
    """The families and protocols of which every packet meets a rule of notrack without conditions, before conntrack."""
    hooks: dict[tuple[str, str], set[str | None]] = {}
    for table in tables:
        for family in HOOKED_FAMILIES.get(table.family, ()):
            for protocol, hook in _places(table):
                hooks.setdefault((family, protocol), set()).add(hook)
    out = frozenset(key for key, found in hooks.items() if found >= _HOOKS)
    whole = frozenset(family for family, protocol in out if protocol == _ALL)
    unknown = frozenset(family for (family, protocol), found in hooks.items() if protocol == _ALL and None in found)
    return KeptOut(whole, unknown - whole, out)


def _places(table: Table) -> Iterator[tuple[str, str | None]]:
    """What a table keeps out before conntrack: a protocol or all, and the hook; None for one that is not known."""
    for chain in table.hooked if not table.dormant else ():
        hook = _hook_of(table, chain)
        if hook != "":
            yield from ((protocol, hook) for protocol in _first_kept_out(table, chain))


def _hook_of(table: Table, chain: str) -> str | None:
    """The hook at which a chain comes before conntrack; "" where it does not, None where that is not known."""
    if table.backend != NFT:
        return _RAW_CHAINS.get(chain, "") if table.name == "raw" else ""
    place = table.places.get(chain)
    if place is None or table.family == _BRIDGE:
        return None
    return place.hook if place.priority < _CONNTRACK else ""


def _first_kept_out(table: Table, chain: str) -> Iterator[str]:
    """The protocols that a chain's first rules keep out; what stands behind a rule of another kind is not judged."""
    for rule in table.rules:
        if rule.chain != chain:
            continue
        words = " ".join(rule.spec) or rule.text
        match = next((found for form in (_XTABLES, _NFT, _JSON) if (found := form.fullmatch(words))), None)
        if match is None:
            return
        yield match.groupdict().get("protocol") or _ALL
