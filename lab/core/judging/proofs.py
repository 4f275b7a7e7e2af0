"""Is conntrack attached? Three proofs side by side: the kernel's list of hooks, what holds them, and what happened.

They are independent: the list comes from the kernel's netfilter, the holders from the rulesets, and the behaviour from
connections. Where they disagree, that is said, for it is either a gap in what the lab knows or news about the kernel.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from lab.core.evidence import Evidence
from lab.core.holders.model import Holder
from lab.core.judging.attachment import (
    WITHOUT_HOOKS,
    found_holders,
    has_notrack,
    hooks_attached,
    load_family,
    load_held,
    passed_by,
    recorded,
    unseen_texts,
)
from lab.core.judging.families import by_family
from lab.core.judging.finding import Finding

__all__ = ["Proofs", "prove", "recorded"]

_BEHAVIOUR: Mapping[str, bool] = {"untracked": False, "tracked": True, "table-full": True, "evicted": True}


@dataclass(frozen=True)
class Proofs:
    """What each of the three says of the family that the load used; None where it cannot say."""

    hooks: bool | None
    holders: bool | None
    behaviour: bool | None
    held_by: tuple[Holder, ...] = ()
    notrack: bool = False  # rules keep some packets out: then nothing may be tracked although the hooks are attached
    disagreement: str | None = None
    families: Mapping[str, Proofs] = field(default_factory=dict, hash=False)  # where the load went over two

    @property
    def holders_known(self) -> bool:
        """Whether what holds conntrack was read; where nothing was found, only if nothing can have been missed."""
        return self.holders is not None or bool(self.held_by)


def prove(evidence: Evidence, finding: Finding) -> Proofs:
    """The proofs of a cell. A recorded text that cannot be read is a proof that cannot say."""
    families = {name: prove(part, finding.families[name]) for name, part in _parts(evidence, finding).items()}
    if finding.family is not None:
        evidence = by_family(evidence).get(finding.family, evidence)
    snapshot = evidence.after or evidence.before
    family = load_family(evidence)
    listed = hooks_attached(snapshot, family)
    found = found_holders(evidence, snapshot)
    unseen = unseen_texts(snapshot)
    held = None if found is None else load_held(found, unseen, family)
    behaviour = None if _of_an_end(finding) else _BEHAVIOUR.get(finding.name)
    notrack = has_notrack(snapshot)
    # two are no contradiction: attached, and passed by (notrack, a bridge); not attached, and tracked without hooks
    compared = None if behaviour is False and (notrack or passed_by(snapshot, family)) else behaviour
    without_hooks = bool(unseen & WITHOUT_HOOKS) or any(not one.hooks for one in found or ())
    seen = None if listed is False and without_hooks else listed
    disagreement = _disagreement(seen, held, compared)
    return Proofs(listed, held, behaviour, found or (), notrack, disagreement, families)


def _of_an_end(finding: Finding) -> bool:
    """Whether the full table was that of an end of the path: then this machine's hooks have no part in it."""
    measured = finding.measured
    return finding.name == "table-full" and not measured.dropped_for_room and bool(measured.ends)


def _parts(evidence: Evidence, finding: Finding) -> Mapping[str, Evidence]:
    return by_family(evidence) if finding.families else {}


def _disagreement(listed: bool | None, held: bool | None, behaviour: bool | None) -> str | None:
    said = {"the kernel's hooks": listed, "the rulesets": held, "the connections": behaviour}
    yes = [name for name, answer in said.items() if answer is True]
    no = [name for name, answer in said.items() if answer is False]
    if not (yes and no):
        return None
    return f"{' and '.join(yes)} say that conntrack is attached, {' and '.join(no)} that it is not"
