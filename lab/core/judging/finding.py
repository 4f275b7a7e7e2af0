"""What a cell's evidence shows: the finding, the sentence that says why, and the numbers that both stand on."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from lab.core.evidence import Evidence
from lab.core.judging.families import by_family, deciding
from lab.core.judging.losses import losses
from lab.core.judging.measured import Measured, measure
from lab.core.judging.rules import RULES
from lab.core.result import FAMILY_NAMES, Loss, Memory

NOTHING_MEASURED = Measured()
_DAMAGE = (ValueError, KeyError, TypeError, AttributeError, OverflowError)

__all__ = ["Finding", "Loss", "Measured", "Memory", "judge", "measure"]


@dataclass(frozen=True)
class Finding:
    """What the evidence shows, the sentence that says why, for `other-loss` what lost most, and every class of loss."""

    name: str
    reason: str
    cause: str | None = None
    measured: Measured = NOTHING_MEASURED
    losses: tuple[Loss, ...] = ()
    family: str | None = None  # whose finding this is, where the load went over two
    families: Mapping[str, Finding] = field(default_factory=dict, hash=False)  # the finding of each, then


def judge(evidence: Evidence) -> Finding:
    """The finding of a cell. Evidence that contradicts itself or cannot be read is `inconclusive`, with what it was.

    A load over two families has a finding for each; the cell's is the one that lost more.
    """
    try:
        parts = {family: _judge(part) for family, part in by_family(evidence).items()}
    except _DAMAGE as error:
        return Finding("inconclusive", f"the evidence cannot be read: {error}")
    whole = _judge(evidence)
    if not parts or whole.measured is NOTHING_MEASURED:
        return whole
    family = deciding({name: part.name for name, part in parts.items()})
    reasons = [f"{FAMILY_NAMES[name]} {parts[name].name}: {parts[name].reason}" for name in _first(family, parts)]
    losses_of_all = tuple(loss for part in parts.values() for loss in part.losses)
    decided = replace(parts[family], measured=whole.measured, losses=losses_of_all)
    return replace(decided, reason="; ".join(reasons), family=family, families=parts)


def _first(family: str, parts: Mapping[str, Finding]) -> list[str]:
    return [family, *(other for other in parts if other != family)]


def _judge(evidence: Evidence) -> Finding:
    try:
        measured = measure(evidence)
        lost = losses(evidence, measured)
        for rule in RULES:
            verdict = rule(evidence, measured, lost)
            if verdict is not None:
                name, reason, cause = verdict
                return Finding(name, reason, cause, measured, lost)
    except _DAMAGE as error:
        return Finding("inconclusive", f"the evidence cannot be read: {error}")
    return Finding("inconclusive", "no rule covers this evidence", None, measured)
