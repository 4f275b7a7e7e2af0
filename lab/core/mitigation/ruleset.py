"""The rules of a recorded state, each at its place, and what differs between two states.

Only places and texts are read here, so that a rule is told from another one; what a rule does is lab/core/holders.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from lab.core.evidence import Snapshot
from lab.core.holders.model import LEGACY, NFT

_SAVES = (("iptables-legacy-save", "ip"), ("ip6tables-legacy-save", "ip6"))
_NFT_TEXT = "ruleset.nft"
_NOT_LOADED = "is not loaded"  # the observation's word where there can be no such rules

_HANDLE = re.compile(r"\s*# handle (\d+)$")
_TABLE = re.compile(r"table (\S+) (\S+) \{")
_CHAIN = re.compile(r"chain (\S+) \{")
_QUOTED = re.compile(r'"[^"]*"')
# what counts by itself, and is left out by `nft --stateless`
_STATE = re.compile(r"(?<=\bcounter) packets \d+ bytes \d+|(?<=bytes) used \d+ \w*bytes|(?<=\blast) used \S+")


@dataclass(frozen=True)
class ListedRule:
    """A rule and its place: a number of iptables, from 1, or a handle of nftables."""

    backend: str  # iptables-legacy, or nft for both programs that write nftables
    family: str
    table: str
    chain: str
    place: int
    text: str

    @property
    def where(self) -> tuple[str, str, str, str]:
        """Its chain, of all chains."""
        return self.backend, self.family, self.table, self.chain


def stateless(text: str) -> str:
    """A rule as `nft --stateless` prints it, in one line: without what it has counted."""
    return " ".join(_STATE.sub("", text).split())


def listed_rules(snapshot: Snapshot | None) -> tuple[ListedRule, ...] | None:
    """All rules of a recorded state; None where a ruleset was not, or not wholly, recorded."""
    if snapshot is None:
        return None
    found: list[ListedRule] = []
    for name, family in (*_SAVES, (_NFT_TEXT, "")):
        text, error = snapshot.texts.get(name), snapshot.errors.get(name, "")
        if _NOT_LOADED not in error and (error or text is None):
            return None
        found += _nft_rules(text or "") if name == _NFT_TEXT else _saved_rules(text or "", family)
    return tuple(found)


def more_rules(rules: Iterable[ListedRule], than: Iterable[ListedRule]) -> tuple[ListedRule, ...]:
    """The rules that are in the first and not in the second, by chain and text; two alike count twice."""
    left = Counter((rule.where, stateless(rule.text)) for rule in than)
    found = []
    for rule in rules:
        key = (rule.where, stateless(rule.text))
        if left[key]:
            left[key] -= 1
        else:
            found.append(rule)
    return tuple(found)


def _saved_rules(text: str, family: str) -> Iterator[ListedRule]:
    table = ""
    numbers: Counter[str] = Counter()
    for line in map(str.strip, text.splitlines()):
        if line.startswith("*"):
            table, numbers = line[1:], Counter()
        elif line.startswith("-A "):
            chain = line.split(" ", 2)[1]
            numbers[chain] += 1
            yield ListedRule(LEGACY, family, table, chain, numbers[chain], line)


def _nft_rules(text: str) -> Iterator[ListedRule]:
    """What has a handle in a chain is a rule; one that opens a bracket goes on until the line with its handle."""
    family = table = chain = ""
    parts: list[str] = []
    for raw in text.splitlines():
        line = raw.strip()
        handle = _HANDLE.search(line)
        line = _HANDLE.sub("", line)
        if opened := _TABLE.fullmatch(line):
            family, table, chain, parts = opened[1], opened[2], "", []
        elif opened := _CHAIN.fullmatch(line):
            chain, parts = opened[1], []
        elif not chain:
            continue
        elif handle:
            yield ListedRule(NFT, family, table, chain, int(handle[1]), " ".join([*parts, line]))
            parts = []
        elif line == "}" and not parts:
            chain = ""
        elif parts or _opens(line):
            parts.append(line)


def _opens(line: str) -> bool:
    bare = _QUOTED.sub("", line)
    return bare.count("{") > bare.count("}")
