"""Two machines of a cell, compared: what was lost, what holds conntrack again, which rules came or went besides."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from lab.core.comparing.significance import LEVEL, shares_test
from lab.core.holders.model import LEGACY, NFT, Holder
from lab.core.mitigation.judged import Judged
from lab.core.mitigation.peer import Reach
from lab.core.mitigation.removal import Removal, deleted_by_handle
from lab.core.mitigation.ruleset import ListedRule, more_rules, stateless


@dataclass(frozen=True)
class Compared:
    """Both machines, what was to be removed, and what follows from these alone."""

    first: Judged
    second: Judged
    removal: Removal
    reach: Reach

    @property
    def chance(self) -> float:
        """The chance of a difference in lost connections as great as the one seen, where nothing but chance made it."""
        if self.first.loss is None or self.second.loss is None:
            return 1.0
        return shares_test(*self.first.loss, *self.second.loss)

    @property
    def lost_more(self) -> int:
        """The sign says whether the second machine lost the greater share of its connections."""
        (lost, total), (later, later_total) = self.first.loss or (0, 1), self.second.loss or (0, 1)
        return later * total - lost * later_total

    @property
    def is_worse(self) -> bool:
        """Whether more is lost than before, by more than chance."""
        return self.chance <= LEVEL and self.lost_more > 0

    @property
    def is_better(self) -> bool:
        """Whether less is lost than before, by more than chance."""
        return self.chance <= LEVEL and self.lost_more < 0

    @property
    def gone(self) -> tuple[ListedRule, ...]:
        """The rules that are not in the second machine's state, and were not to be removed."""
        return tuple(_beside(more_rules(self.first.rules_before or (), self.second.rules_before or ()), self.removal))

    @property
    def came(self) -> tuple[ListedRule, ...]:
        """The rules that only the second machine's state has."""
        return more_rules(self.second.rules_before or (), self.first.rules_before or ())

    @property
    def held_again(self) -> tuple[Holder, ...]:
        """What held conntrack in the second machine, before its load or after it, and was to be gone."""
        kept = (*self.removal.kept, *self.removal.stuck)
        found = self.second.held_before or ()
        later = more_holders(self.second.held_by, found)
        return more_holders((*found, *later), kept)


def _beside(gone: Sequence[ListedRule], removal: Removal) -> list[ListedRule]:
    """Those that no holder's removal names: as many rules of a chain may go as were to go."""
    expected: Counter[tuple[str, str, str, str]] = Counter()
    whole: set[tuple[str, str, str, str]] = set()
    for holder in removal.removed:
        if holder.number is not None:
            backend = LEGACY if holder.backend == LEGACY else NFT
            expected[backend, holder.family, holder.table, holder.chain] += 1
        for family, table, chain, _ in deleted_by_handle(holder.remove):
            expected[NFT, family, table, chain] += 1
        if "chain" in holder.remove[1:3]:  # the rules in it go with a chain
            whole.add((NFT, holder.family, holder.table, holder.chain))
    found = []
    for rule in gone:
        if expected[rule.where]:
            expected[rule.where] -= 1
        elif rule.where not in whole:
            found.append(rule)
    return found


def more_holders(found: Iterable[Holder], than: Iterable[Holder]) -> tuple[Holder, ...]:
    """Those that are not among the others, whatever their places; two alike count twice."""
    left = Counter(map(_identity, than))
    more = []
    for holder in found:
        if left[_identity(holder)]:
            left[_identity(holder)] -= 1
        else:
            more.append(holder)
    return tuple(more)


def _identity(holder: Holder) -> tuple[str, ...]:
    place = (holder.kind, holder.backend, holder.family, holder.table, holder.chain)
    return (*place, stateless(holder.rule))
