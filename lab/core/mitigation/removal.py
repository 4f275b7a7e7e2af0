"""From holders to the steps that remove them in the second machine.

Holders and places are those of the state before the load: the second machine is in that state when the steps run. What
goes by its place is checked there against its text first (lab/guest/removal.py).
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import groupby

from lab.core.holders.model import Holder
from lab.core.mitigation.judged import Judged
from lab.core.mitigation.ruleset import ListedRule, stateless
from lab.core.plan import CellPlan, ExpectedRule, PlannedStep, RemoveStep
from lab.core.plan.stored import StoredPlan
from lab.core.scenario import RunStep, UnloadStep

Argv = tuple[str, ...]
Commands = tuple[Argv, ...]

# Modules go all at once, so each of their holders names the same command. A rule goes by its words, so two rules alike
# name the same command, and each has to be removed.
_AT_ONCE = frozenset({"option", "module"})
_STEP = "mitigation"
_UNLOAD = ("modprobe", "-r")
# From so many on, rules go in one transaction: a program that is started for each takes minutes for a
# thousand. Fewer are easier to read one by one.
_MANY = 10
_MOST_BYTES = 60_000  # of one argument; the kernel takes 128 KiB (MAX_ARG_STRLEN)
_DELETE = ("nft", "delete", "rule")


@dataclass(frozen=True)
class Removal:
    """What is to be removed, by which steps, and what is not."""

    steps: tuple[RunStep | RemoveStep | UnloadStep, ...]
    removed: tuple[Holder, ...]
    kept: tuple[Holder, ...] = ()  # parts of a firewall
    stuck: tuple[Holder, ...] = ()  # nothing is known that removes them


def removal_of(first: Judged) -> Removal:
    """What is to be removed of what held conntrack before the load."""
    found = first.held_before or ()
    kept = tuple(holder for holder in found if holder.part_of_firewall)
    removed = tuple(holder for holder in found if holder.remove and holder not in kept)
    stuck = tuple(holder for holder in found if not holder.remove and holder not in kept)
    return Removal(tuple(steps(removed, first.rules_before or ())), removed, kept, stuck)


def mitigated(plan: CellPlan, removal: Removal) -> CellPlan:
    """The plan of the second machine: the removal is further steps, after the state and before the table's settings."""
    more = (PlannedStep(f"{_STEP}[{index}]", step) for index, step in enumerate(removal.steps))
    return replace(plan, steps=(*plan.steps, *more))


def planned_commands(plan: StoredPlan) -> Commands:
    """The removal in the stored plan of a second machine: what was run, whatever would be run today."""
    mine = (step for step in plan.steps if step["key"].startswith(f"{_STEP}["))
    return tuple((*_UNLOAD, *step["modules"]) if step["kind"] == "unload" else tuple(step["argv"]) for step in mine)


def steps(removed: Sequence[Holder], rules: Sequence[ListedRule]) -> Iterator[RunStep | RemoveStep | UnloadStep]:
    """The holders' removal, in their order: many rules of one program and table in few commands."""
    texts = {(rule.family, rule.table, rule.place): rule for rule in rules if rule.backend == "nft"}
    seen: list[Argv] = []
    for _, group in groupby(removed, _transaction):
        together = list(group)
        if len(together) >= _MANY and _transaction(together[0]) is not None:
            for some in _chunks(together):
                yield _step(_restore(some) if some[0].number is not None else _deletes(some), some, texts)
            continue
        for holder in together:
            if holder.kind in _AT_ONCE and holder.remove in seen:
                continue
            seen.append(holder.remove)
            # Modules go with patience: nf_tables lets go of them in the background. By hand nobody meets that.
            if holder.remove[: len(_UNLOAD)] == _UNLOAD:
                yield UnloadStep(holder.remove[len(_UNLOAD) :])
            else:
                yield _step(holder.remove, [holder], texts)


def _transaction(holder: Holder) -> tuple[str, str, str] | None:
    """What can go in one transaction has the same of these; None: it goes by itself."""
    if holder.number is not None:  # iptables-restore reads no word with a line end
        return None if "\n" in holder.rule else (holder.remove[0], holder.family, holder.table)
    return ("nft", "", "") if holder.remove[: len(_DELETE)] == _DELETE else None


def _chunks(together: Sequence[Holder]) -> Iterator[list[Holder]]:
    some: list[Holder] = []
    size = 0
    for holder in together:
        length = len(holder.rule.encode()) + sum(len(word.encode()) + 1 for word in holder.remove)
        if some and size + length > _MOST_BYTES:
            yield some
            some, size = [], 0
        some.append(holder)
        size += length
    yield some


def _restore(together: Sequence[Holder]) -> Argv:
    """Rules of one table of iptables: by their words as iptables-save prints them, or by number."""
    lines = (
        f"-D {holder.chain} {holder.remove[-1]}" if _by_number(holder) else f"-D{holder.rule.removeprefix('-A')}"
        for holder in together
    )
    text = shlex.join(["printf", r"%s\n", f"*{together[0].table}", *lines, "COMMIT"])
    return "sh", "-c", f"{text} | {together[0].remove[0]}-restore --noflush"


def _deletes(together: Sequence[Holder]) -> Argv:
    return "nft", " ; ".join(" ".join(holder.remove[1:]) for holder in together)


def _by_number(holder: Holder) -> bool:
    return holder.number is not None and holder.remove[-1] == str(holder.number) and holder.remove[-2] == holder.chain


def _step(
    argv: Argv, together: Sequence[Holder], texts: Mapping[tuple[str, str, int], ListedRule]
) -> RunStep | RemoveStep:
    expected = [rule for holder in together for rule in _expected(holder, texts)]
    return RemoveStep(argv, tuple(expected)) if expected else RunStep(argv)


def _expected(holder: Holder, texts: Mapping[tuple[str, str, int], ListedRule]) -> Iterator[ExpectedRule]:
    """What must be at the places that a removal names; nothing for one that goes by its words."""
    if _by_number(holder):
        listing = (holder.remove[0], "-t", holder.table, "-S", holder.chain)
        yield ExpectedRule(listing, holder.chain, holder.number, None, holder.rule)
    for family, table, chain, handle in deleted_by_handle(holder.remove):
        rule = texts.get((family, table, handle))
        text = "" if rule is None else stateless(rule.text)  # an unknown text is no rule's, so nothing is removed
        yield ExpectedRule(("nft", "-s", "-a", "list", "chain", family, table, chain), chain, None, handle, text)


def deleted_by_handle(argv: Argv) -> Iterator[tuple[str, str, str, int]]:
    """Family, table, chain and handle of every rule that a command of nft deletes."""
    if argv[:1] != ("nft",):
        return
    for match in re.finditer(r"(?:^|; )delete rule (\S+) (\S+) (\S+) handle (\d+)", " ".join(argv[1:])):
        yield match[1], match[2], match[3], int(match[4])
