"""What a cell's evidence shows: the finding, the sentence that says why, and the numbers that both stand on."""

from __future__ import annotations

from dataclasses import dataclass

from lab.core.evidence import Evidence
from lab.core.judging.losses import losses
from lab.core.judging.measured import Measured, measure
from lab.core.judging.rules import RULES
from lab.core.result import Loss, Memory

NOTHING_MEASURED = Measured()

__all__ = ["Finding", "Loss", "Measured", "Memory", "judge", "measure"]


@dataclass(frozen=True)
class Finding:
    """What the evidence shows, the sentence that says why, for `other-loss` what lost most, and every class of loss."""

    name: str
    reason: str
    cause: str | None = None
    measured: Measured = NOTHING_MEASURED
    losses: tuple[Loss, ...] = ()


def judge(evidence: Evidence) -> Finding:
    """The finding of a cell. Evidence that contradicts itself or cannot be read is `inconclusive`, with what it was."""
    try:
        measured = measure(evidence)
        lost = losses(evidence, measured)
        for rule in RULES:
            verdict = rule(evidence, measured, lost)
            if verdict is not None:
                name, reason, cause = verdict
                return Finding(name, reason, cause, measured, lost)
    except (ValueError, KeyError, TypeError, AttributeError, OverflowError) as error:
        return Finding("inconclusive", f"the evidence cannot be read: {error}")
    return Finding("inconclusive", "no rule covers this evidence", None, measured)
