"""Rules that keep packets out of conntrack although it is attached: all packets of a family, or some."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from lab.core.holders import HOOKED_FAMILIES, NFT, Table
from lab.core.holders.model import Rule

_EVERYTHING: Final = frozenset({("-j", "CT", "--notrack"), ("-j", "NOTRACK")})
_NFT_EVERYTHING: Final = re.compile(r"(?:counter packets \d+ bytes \d+ )?notrack")
_RAW_CHAINS: Final = frozenset({"PREROUTING", "OUTPUT"})  # all packets come through one of them, before conntrack


@dataclass(frozen=True)
class KeptOut:
    """What such rules keep out."""

    whole: frozenset[str] = frozenset()  # the families of which no packet is tracked
    doubtful: frozenset[str] = frozenset()  # those of which perhaps none is: at which hook a rule stands is not known


def kept_out(tables: Iterable[Table]) -> KeptOut:
    """The families of which every packet meets a rule of notrack without conditions, in raw PREROUTING and OUTPUT."""
    whole: set[str] = set()
    doubtful: set[str] = set()
    for table in tables:
        families = HOOKED_FAMILIES.get(table.family, ())
        first = {rule.chain: rule for rule in reversed(table.rules)}
        if table.name == "raw" and all(_everything(first.get(chain)) for chain in _RAW_CHAINS):
            whole.update(families)
        elif table.backend == NFT and any(_everything(first.get(chain)) for chain in table.hooked):
            doubtful.update(families)
    return KeptOut(frozenset(whole), frozenset(doubtful - whole))


def _everything(rule: Rule | None) -> bool:
    """Whether the first rule of a chain is one without conditions; what stands behind another is not judged."""
    return rule is not None and (rule.spec in _EVERYTHING or _NFT_EVERYTHING.fullmatch(rule.text) is not None)
