"""Holders as people read them: hundreds are grouped by where they are, with an example of each group."""

from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from typing import Final

from lab.core.holders.model import MAY_HOLD, NFT, PART_OF_FIREWALL, Holder
from lab.core.holders.removal import PROGRAMS

MOST_GROUPS: Final = 8


@dataclass(frozen=True)
class Group:
    """Holders of one place that are alike in what is said of them."""

    place: str  # "iptables-legacy ip nat KUBE-SERVICES", without a chain where there are several
    count: int
    chains: int
    example: Holder

    @property
    def size(self) -> str:
        """How many they are, as words; empty for one."""
        chains = f" in {self.chains:,} chains" if self.chains > 1 else ""
        return f"{self.count:,} of them{chains}" if self.count > 1 else ""

    @property
    def notes(self) -> tuple[str, ...]:
        """What is to be known of each of them beside its rule."""
        return notes(self.example)

    @property
    def remove(self) -> tuple[str, ...]:
        """The command that removes it; of several none, and none of what should stay."""
        return self.example.remove if self.count == 1 and not self.example.part_of_firewall else ()

    @property
    def remove_all(self) -> tuple[str, ...]:
        """The one command that removes several, and with them whatever else is in their chain or table; () where there
        is none, for one holder, and for what should stay.
        """
        backend, family, table, *chain = (
            [*self.place.split(" "), "", ""][:4] if self.place.count(" ") >= 2 else [""] * 4
        )
        if self.count == 1 or self.example.owner is not None or self.example.part_of_firewall or not table:
            return ()
        if backend == NFT:
            return (NFT, "delete", "table", family, table)
        program = PROGRAMS.get((backend, family))
        return () if program is None else (program, "-t", table, "-F", *filter(None, chain))


def groups(found: Sequence[Holder], most: int = MOST_GROUPS) -> tuple[Group, ...]:
    """The holders in groups, in the order of their first ones: each by itself while they are few, else by chain, by
    table or by backend, whichever first gives at most `most` groups."""
    if len(found) <= most:
        return tuple(Group(_place(one.backend, one.family, one.table, one.chain), 1, 1, one) for one in found)
    gathered: list[list[Holder]] = []
    for level in _LEVELS:
        by_place: dict[Hashable, list[Holder]] = {}
        for one in found:
            alike = (one.certain, one.part_of_firewall, one.owner, one.reachable, one.advice)
            by_place.setdefault((level(one), alike), []).append(one)
        gathered = list(by_place.values())
        if len(gathered) <= most:
            break
    return tuple(map(_group, gathered))


def _group(members: list[Holder]) -> Group:
    first = members[0]
    parts = [{getattr(one, name) for one in members} for name in ("backend", "family", "table", "chain")]
    common: list[str] = []
    for values in parts:
        if len(values) > 1:
            break
        common.append(values.pop())
    chains = len({(one.family, one.table, one.chain) for one in members})
    return Group(_place(*common), len(members), chains, first)


_LEVELS: Final[tuple[Callable[[Holder], Hashable], ...]] = (
    lambda one: (one.backend, one.family, one.table, one.chain),
    lambda one: (one.backend, one.family, one.table),
    lambda one: one.backend,
)


def _place(*parts: str) -> str:
    return " ".join(part for part in parts if part)


def notes(holder: Holder, elsewhere: bool = True) -> tuple[str, ...]:
    """What is to be known of a holder beside its rule and its removal, which may be done `elsewhere`."""
    by_handle = elsewhere and holder.remove[:1] == (NFT,) and "handle" in holder.remove
    chain = f"nft -a list chain {holder.family} {holder.table} {holder.chain}"
    told = (
        (holder.reachable is False, "no packet reaches it, and it holds conntrack all the same"),
        (not holder.certain, MAY_HOLD),
        (not holder.hooks, "tracks what passes it, without hooks"),
        (holder.part_of_firewall, PART_OF_FIREWALL),
        (bool(holder.advice), holder.advice),
        (by_handle, f"the handle is this guest's: `{chain}` shows those of another machine"),
    )
    return tuple(text for applies, text in told if applies)
