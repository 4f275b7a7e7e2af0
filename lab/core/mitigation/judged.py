"""What a machine's evidence showed, as far as mitigations need it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from lab.core.evidence import Evidence
from lab.core.holders.model import Holder
from lab.core.judging.attachment import found_holders
from lab.core.judging.finding import Finding
from lab.core.judging.proofs import Proofs, prove
from lab.core.mitigation.ruleset import ListedRule, listed_rules


@dataclass(frozen=True)
class Judged:
    """What a machine's evidence showed. None is unknown."""

    finding: Finding
    proofs: Proofs | None
    held_before: tuple[Holder, ...] | None = None  # what held conntrack before the load
    rules_before: tuple[ListedRule, ...] | None = None
    peer: Mapping[str, Any] | None = field(default=None, hash=False)  # lab/core/mitigation/peer.py reads it

    @property
    def held_by(self) -> tuple[Holder, ...]:
        """What was found to hold conntrack, at the end."""
        return self.proofs.held_by if self.proofs is not None else ()

    @property
    def loss(self) -> tuple[int, int] | None:
        """How many of the connections that were begun did not last to the load's end, newcomers included, and of how
        many. One that the other side never accepted was not held either; one that was never begun tells nothing.
        """
        counts = self.finding.measured.connections
        if counts is None:
            return None
        begun, lasted = counts["attempted"], min(counts["held"], counts["accepted"])
        if (late := self.finding.measured.newcomers) is not None:
            begun += late["connections"]
            lasted += min(late["held"], late.get("accepted", late["held"]))
        return begun - lasted, begun


def judged(evidence: Evidence, finding: Finding) -> Judged:
    """What the evidence shows beside its finding."""
    before = evidence.before
    return Judged(
        finding, prove(evidence, finding), found_holders(evidence, before), listed_rules(before), peer=evidence.peer
    )
