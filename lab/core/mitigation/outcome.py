"""What came of a removal: two machines' findings, proofs and peers, compared by a table of rules.

The first rule that speaks decides. They begin with what makes the comparison worthless: a removal that did not end, or
after which something else differed than what was to be removed.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

from lab.core.comparing.significance import LEVEL, shares_test
from lab.core.holders.model import PART_OF_FIREWALL, Holder
from lab.core.mitigation.advice import advice
from lab.core.mitigation.compared import Compared, more_holders
from lab.core.mitigation.judged import Judged
from lab.core.mitigation.peer import reach, shown
from lab.core.mitigation.removal import Commands, Removal, removal_of
from lab.core.mitigation.ruleset import ListedRule
from lab.core.result import Kept, Mitigation

# Each outcome, and when it is that.
OUTCOMES: Mapping[str, str] = {
    "fixes": "nothing is lost, the load is proved to have no entry, or the hooks to be gone, and every connection with "
    "other hosts that worked before works",
    "hides": "nothing is lost any more, but conntrack is still attached, or connections are still tracked",
    "better": "fewer connections are lost, or tracked, than before, by more than chance, but some still are",
    "no effect": "connections are lost as before, or tracked as before where none was lost",
    "worse": "more connections of the load are lost than before, by more than chance, or others no longer get through",
    "unknown": "it could not be tried to its end, or what was seen does not tell, or nothing could be removed",
}

_TRACKING = frozenset({"tracked", "table-full", "evicted"})
_UNTRIED = frozenset({"state-refused", "inconclusive", "skipped"})
_MOST_NAMED = 5


def called_for(first: Judged) -> bool:
    """Whether there is something to mitigate: conntrack attached, or connections lost while something holds it."""
    name = first.finding.name
    return name in _TRACKING or (name == "other-loss" and bool(first.held_by))


def outcome(first: Judged, second: Judged | None, ran: Commands) -> Mitigation:
    """What came of it. `second` is None when there was nothing to run, and so no second machine."""
    removal = removal_of(first)
    kept = tuple(Kept(holder.rule, holder.backend, PART_OF_FIREWALL) for holder in removal.kept)
    untried = Mitigation("unknown", _why_not_tried(first, removal), ran, None, kept, advice(removal))
    if second is None:
        return untried
    compared = Compared(first, second, removal, reach(first.peer, second.peer))
    name, reason = next(verdict for rule in RULES if (verdict := rule(compared)) is not None)
    why = _not_removed(removal)
    if why and name in ("hides", "no effect", "better"):
        name, reason = "unknown", f"{why}, and without that {reason}"
    return replace(untried, outcome=name, reason=reason, finding=second.finding.name, peer=compared.reach.record())


Verdict = tuple[str, str]  # outcome, reason


def _untried(both: Compared) -> Verdict | None:
    if both.second.finding.name not in _UNTRIED:
        return None
    return "unknown", f"it could not be tried to its end: {_first_line(both.second)}"


def _unread(both: Compared) -> Verdict | None:
    states = (both.first.held_before, both.first.rules_before, both.second.held_before, both.second.rules_before)
    if all(one is not None for one in states):
        return None
    return (
        "unknown",
        f"which rules the removal left could not be recorded, so it shows nothing: {_first_line(both.second)}",
    )


def _came_back(both: Compared) -> Verdict | None:
    again = both.held_again
    if not again:
        return None
    tracking = both.second.finding.name in _TRACKING or (both.second.loss or (0, 0))[0] > 0
    new = more_holders(again, both.removal.removed) == again
    what = "conntrack is held by what did not hold it before" if new else "what was removed came back, held again by"
    said = f"{what}{':' * new} {_shown(again)}: {_first_line(both.second)}"
    return "no effect" if tracking and not (new or both.is_worse) else "unknown", said


def _changed(both: Compared) -> Verdict | None:
    """Rules that differ between the two states beside those that were to go."""
    parts = [f"{_texts(both.gone)} gone"] if both.gone else []
    parts += [f"{_texts(both.came)} come"] if both.came else []
    if not parts:
        return None
    what = " and ".join(parts)
    return (
        "unknown",
        f"besides what was removed {what}, so it does not show what the removal does: {_first_line(both.second)}",
    )


def _worse(both: Compared) -> Verdict | None:
    parts = [f"more is lost than before: {_numbers(both)}"] if both.is_worse else []
    if both.reach.cut:
        parts.append(f"connections that worked before do not any more: {shown(both.reach.cut)}")
    if not parts:
        return None
    return "worse", f"{'; '.join(parts)}; {_first_line(both.second)}{_attachment(both.second)}"


def _lost(both: Compared) -> Verdict | None:
    before, after = both.first.loss, both.second.loss
    if after is None:
        return "unknown", f"what became of the connections is not known: {_first_line(both.second)}"
    if not after[0]:
        return None
    said = f"{_first_line(both.second)}{_attachment(both.second)}"
    if not before or not before[0]:
        return "unknown", f"some are lost where none was before, which may be chance ({_numbers(both)}): {said}"
    if both.first.finding.name == both.second.finding.name == "other-loss":
        reason = f"connections are lost in both to another reason than the table ({_numbers(both)})"
        return "unknown", f"{reason}, so the load does not show what the removal does: {said}"
    if both.is_better:
        return "better", f"fewer are lost, but not none: {_numbers(both)}; {said}"
    if both.second.finding.name == "other-loss":
        return "unknown", f"as many are lost, but to another reason than the table now ({_numbers(both)}): {said}"
    return "no effect", f"connections are still lost, and as many as before but for chance: {_numbers(both)}; {said}"


def _tracked(both: Compared) -> Verdict | None:
    entries = both.second.finding.measured.load_entries
    if both.second.finding.name not in _TRACKING and not entries:
        return None
    unseen = "" if _sayers(both.second, True) else "; what holds conntrack now is not known"
    said = f"{_first_line(both.second)}{unseen or _attachment(both.second)}"
    evicted = both.first.finding.name == "evicted" != both.second.finding.name
    if both.first.loss is None or both.first.loss[0] or evicted:
        return "hides", f"nothing is lost, but connections are still tracked: {said}"
    before, wanted = both.first.finding.measured.load_entries, both.second.finding.measured.wanted
    if before and entries is not None and wanted and entries < before <= wanted:
        if shares_test(before, wanted, entries, wanted) <= LEVEL:
            return (
                "better",
                f"fewer are tracked, but not none: the load had {before} entries before, {entries} after; {said}",
            )
    return "no effect", f"connections are tracked as before: {said}"


def _attached(both: Compared) -> Verdict | None:
    """Untracked, and yet not detached. Rules that say notrack explain it where no proof speaks against conntrack."""
    second = both.second
    says = _sayers(second, True)
    if says:
        return "hides", f"nothing is tracked ({_first_line(second)}), but {says} that conntrack is still attached"
    hidden = second.proofs is not None and second.proofs.notrack
    if hidden and not _sayers(second, False):
        reason = f"rules with notrack are there, and whether conntrack is attached is unknown: {_first_line(second)}"
        return "hides", reason
    return None


def _unproved(both: Compared) -> Verdict | None:
    """Unknown is never "no": that nothing was seen to be tracked proves nothing."""
    measured, proofs = both.second.finding.measured, both.second.proofs
    detached = measured.absent or (proofs is not None and proofs.hooks is False)
    # a table that was empty in every sample had none of the load's entries either
    proved = detached or 0 in (measured.load_entries, measured.entries_peak)
    if proved and both.second.finding.name == "untracked":
        return None
    missing = "neither the load's entries nor the kernel's hooks could be read"
    return "unknown", f"nothing is seen to be tracked, but {missing}: {_first_line(both.second)}"


def _untold(both: Compared) -> Verdict | None:
    if not both.reach.untold:
        return None
    return "unknown", f"whether connections with other hosts still work was not seen: {_first_line(both.second)}"


def _fixed(both: Compared) -> Verdict:
    worked = tuple(way for way, one in (both.reach.before or {}).items() if one)
    seen = (
        f"what worked before still does: {shown(worked)}" if worked else "connections with other hosts were not tried"
    )
    return "fixes", f"{_first_line(both.second)}{_attachment(both.second)}; {seen}"


RULES: tuple[Callable[[Compared], Verdict | None], ...] = (
    _untried,
    _unread,
    _came_back,
    _changed,
    _worse,
    _lost,
    _tracked,
    _attached,
    _unproved,
    _untold,
    _fixed,
)


def _why_not_tried(first: Judged, removal: Removal) -> str:
    if first.held_before is None:
        return "the rulesets could not be recorded, so what holds conntrack is unknown"
    if removal.steps:
        return "the cell was run without a second machine, so its commands were not tried"
    return _not_removed(removal) or "nothing was found that holds conntrack, so there is nothing to remove"


def _not_removed(removal: Removal) -> str:
    """Why some holders were left, as the beginning of a sentence; empty when none was."""
    parts = [f"{_shown(removal.kept)}: {PART_OF_FIREWALL}"] if removal.kept else []
    parts += [f"no command is known that removes {_shown(removal.stuck)}"] if removal.stuck else []
    return ", and ".join(parts)


def _numbers(both: Compared) -> str:
    parts = [f"{lost} of {total}" for lost, total in (one for one in (both.first.loss, both.second.loss) if one)]
    return f"{', then '.join(parts)} connections lost (p = {both.chance:.2g})"


def _attachment(second: Judged) -> str:
    """What the proofs say of conntrack, as the end of a sentence."""
    yes, no = _sayers(second, True), _sayers(second, False)
    if yes:
        return f"; {yes} that conntrack is still attached"
    return f"; {no} that conntrack is not attached any more" if no else "; whether conntrack is attached is unknown"


def _sayers(judged: Judged, answer: bool) -> str:
    """Which of the two proofs that look at conntrack itself give this answer; empty when none does."""
    if judged.proofs is None:
        return ""
    said = {"the kernel's hooks": judged.proofs.hooks, "the rulesets": judged.proofs.holders}
    names = [name for name, given in said.items() if given is answer]
    return f"{' and '.join(names)} say" if names else ""


def _shown(held_by: Sequence[Holder]) -> str:
    named = [f"`{holder.rule}` of {holder.backend}" for holder in held_by[:_MOST_NAMED]]
    return ", ".join(named) + _and_more(len(held_by))


def _texts(rules: Sequence[ListedRule]) -> str:
    named = ", ".join(f"`{rule.text[:200]}` of {rule.table} {rule.chain}" for rule in rules[:_MOST_NAMED])
    return f"{named}{_and_more(len(rules))} {'have' if len(rules) > 1 else 'has'}"


def _and_more(count: int) -> str:
    return f" and {count - _MOST_NAMED} more" if count > _MOST_NAMED else ""


def _first_line(judged: Judged) -> str:
    return judged.finding.reason.splitlines()[0]
