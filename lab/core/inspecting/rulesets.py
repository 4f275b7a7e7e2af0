"""The rulesets and other texts of a namespace: which were read, which say that there is nothing, which are missing."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Final

from lab.core.evidence import Snapshot
from lab.core.facts import Facts
from lab.core.holders.find import holders, tables_and_holders
from lab.core.holders.model import Holder, Recorded, Table
from lab.core.judging.attachment import recorded

# A kernel whose release is not known: what rules need does not depend on it.
_UNKNOWN_RELEASE: Final = (99, 0)
_NOT_LOADED: Final = "is not loaded"
_NFT_VIEWS: Final = ("ruleset.nft", "ruleset.json")
_NFT_SAVED: Final = ("iptables-nft-save", "ip6tables-nft-save")
# what can hold conntrack, by the texts that show it: any one of a row is enough, unless it shows that it is not
SOURCES: Final[tuple[tuple[str, tuple[str, ...]], ...]] = (
    ("legacy rules of IPv4", ("iptables-legacy-save",)),
    ("legacy rules of IPv6", ("ip6tables-legacy-save",)),
    ("nftables, rules of iptables-nft among them", _NFT_VIEWS),
)
# the field of Recorded that a text of a snapshot goes to
_FIELDS: Final = {
    "iptables-legacy-save": "iptables_legacy",
    "ip6tables-legacy-save": "ip6tables_legacy",
    "iptables-nft-save": "iptables_nft",
    "ip6tables-nft-save": "ip6tables_nft",
    "ruleset.nft": "nft_text",
    "ruleset.json": "nft_json",
    "modules": "modules",
    "ip_vs": "ip_vs",
    "tc.filters": "tc_filters",
    "ovs.flows": "ovs_flows",
}


@dataclass(frozen=True)
class Gap:
    """Something that was not read."""

    what: str
    why: str
    backend: str = ""  # of the rules that use counts may prove absent: legacy or nft; "" where none can

    def __str__(self) -> str:
        return f"{self.what}: {self.why}"


@dataclass(frozen=True)
class Rulesets:
    """What was read of one namespace."""

    recorded: Recorded
    tables: tuple[Table, ...] = ()
    holders: tuple[Holder, ...] = ()
    read: tuple[str, ...] = ()  # names of SOURCES of which nothing is missing
    gaps: tuple[Gap, ...] = ()


def read_rulesets(snapshot: Snapshot, facts: Facts) -> Rulesets:
    """Parse what was recorded. A text in a form that cannot be read is a gap, with its line, and not an empty one."""
    texts, unreadable, found = _parsable(snapshot, facts)
    gaps = [Gap(name, why) for name, why in unreadable.items()]
    read = []
    for what, names in SOURCES:
        gap = _gap(what, names, texts, snapshot.errors)
        if gap is None:
            read.append(what)
        elif not any(name in unreadable for name in names):
            gaps.append(gap)
    return replace(found, read=tuple(read), gaps=tuple(gaps))


def _recorded(snapshot: Snapshot, facts: Facts) -> Recorded:
    if facts.kernel_release is not None:
        try:
            return recorded(snapshot, facts)
        except ValueError:
            pass
    return replace(recorded(snapshot, replace(facts, kernel_release="1.0")), kernel=_UNKNOWN_RELEASE)


def _parsable(snapshot: Snapshot, facts: Facts) -> tuple[dict[str, str], dict[str, str], Rulesets]:
    """The texts without those that cannot be parsed, why each of these cannot, and what the others have."""
    texts = dict(snapshot.texts)
    unreadable: dict[str, str] = {}
    whole = _recorded(snapshot, facts)
    try:
        return texts, unreadable, Rulesets(whole, *tables_and_holders(whole))
    except ValueError:
        pass
    for name, field in _FIELDS.items():
        try:
            holders(replace(Recorded(whole.kernel), **{field: getattr(whole, field)}))
        except ValueError as error:
            unreadable[name] = str(error)
            del texts[name]
    rest = _recorded(Snapshot(texts, snapshot.errors), facts)
    return texts, unreadable, Rulesets(rest, *tables_and_holders(rest))


def _gap(what: str, names: tuple[str, ...], texts: dict[str, str], errors: object) -> Gap | None:
    said = dict(errors) if isinstance(errors, dict) else {}
    if any(name in texts for name in names) or any(_NOT_LOADED in said.get(name, "") for name in names):
        return None
    if names == _NFT_VIEWS and all(name in texts for name in _NFT_SAVED):
        return Gap("nftables rules that iptables-nft did not make", said.get(names[0], "not recorded"), "nft")
    why = next((said[name] for name in names if name in said), "not recorded")
    return Gap(what, why, _backend(names[0]))


def _backend(name: str) -> str:
    if name in ("iptables-legacy-save", "ip6tables-legacy-save"):
        return "legacy"
    return "nft" if name in (*_NFT_VIEWS, *_NFT_SAVED) else ""


def rule_count(tables: tuple[Table, ...]) -> int:
    """How many rules there are."""
    return sum(len(table.rules) for table in tables)
