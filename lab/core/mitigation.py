"""Mitigations: which commands remove what a cell found to hold conntrack, and what came of running them.

A cell names its holders with the command that removes each. That is tried in a second machine: the same state, then the
commands, then the same load. What both machines showed makes the outcome.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from lab.core.finding import Finding
from lab.core.holders import Holder
from lab.core.plan import CellPlan, PlannedStep
from lab.core.proofs import Proofs
from lab.core.scenario import RunStep, Step, UnloadStep

Commands = tuple[tuple[str, ...], ...]

# Each outcome, and when it is that.
OUTCOMES: Mapping[str, str] = {
    "fixes": "nothing is tracked any more, and neither the kernel's hooks nor the rulesets say that it is attached",
    "hides": "nothing is lost any more, but conntrack is still attached, or connections are still tracked",
    "no effect": "connections are lost as before, or tracked as before where none was lost",
    "unknown": "it could not be tried to its end, or nothing removes what holds conntrack",
}

_TRACKING = frozenset({"tracked", "table-full", "evicted"})
_LOSS = frozenset({"table-full", "evicted", "other-loss"})
_UNTRIED = frozenset({"state-refused", "inconclusive", "skipped"})
# Modules go all at once, so each of their holders names the same command. A rule goes by its words, so two rules alike
# name the same command, and each has to be removed.
_AT_ONCE = frozenset({"option", "module"})
_STEP = "mitigation"
_UNLOAD = ("modprobe", "-r")


@dataclass(frozen=True)
class Judged:
    """What a machine's evidence showed."""

    finding: Finding
    proofs: Proofs | None

    @property
    def held_by(self) -> tuple[Holder, ...]:
        """What was found to hold conntrack."""
        return self.proofs.held_by if self.proofs is not None else ()


@dataclass(frozen=True)
class Mitigation:
    """What came of removing the holders, why, and what was run; `finding` is None when no second machine was made."""

    outcome: str
    reason: str
    commands: Commands
    finding: str | None

    def to_json(self) -> dict[str, Any]:
        """As in a result's `mitigation`."""
        return {
            "outcome": self.outcome,
            "reason": self.reason,
            "commands": [list(argv) for argv in self.commands],
            "finding": self.finding,
        }


def called_for(first: Judged) -> bool:
    """Whether there is something to mitigate: conntrack attached, or connections lost while something holds it."""
    name = first.finding.name
    return name in _TRACKING or (name == "other-loss" and bool(first.held_by))


def commands(held_by: Sequence[Holder]) -> Commands:
    """The commands that remove the holders, in their order; a holder that nothing removes has none."""
    found: list[tuple[str, ...]] = []
    for holder in held_by:
        again = holder.kind in _AT_ONCE and holder.remove in found
        if holder.remove and not again:
            found.append(holder.remove)
    return tuple(found)


def mitigated(plan: CellPlan, removal: Commands) -> CellPlan:
    """The plan of the second machine: the removal is further steps, after the state and before the table's settings."""
    steps = (PlannedStep(f"{_STEP}[{index}]", _step(argv)) for index, argv in enumerate(removal))
    return replace(plan, steps=(*plan.steps, *steps))


def _step(argv: tuple[str, ...]) -> Step:
    """Modules are removed as a step `unload` does it, with patience: nf_tables lets go of them in the background.

    By hand nobody is fast enough to meet that.
    """
    return UnloadStep(argv[len(_UNLOAD) :]) if argv[: len(_UNLOAD)] == _UNLOAD else RunStep(argv)


def planned_commands(plan: Mapping[str, Any]) -> Commands:
    """The removal in the stored plan of a second machine: what was run, whatever would be run today."""
    mine = (step for step in plan["steps"] if step["key"].startswith(f"{_STEP}["))
    return tuple(tuple(step["argv"]) if step["kind"] == "run" else (*_UNLOAD, *step["modules"]) for step in mine)


def outcome(first: Judged, second: Judged | None, ran: Commands) -> Mitigation:
    """What came of it. `second` is None when there was nothing to run, and so no second machine."""
    if second is None:
        return Mitigation("unknown", _why_not_tried(first), ran, None)
    name, reason = next(verdict for rule in RULES if (verdict := rule(first, second)) is not None)
    without = _shown([holder for holder in first.held_by if not holder.remove])
    if without and name in ("hides", "no effect"):
        name, reason = "unknown", f"no command is known that removes {without}, and without that {reason}"
    return Mitigation(name, reason, ran, second.finding.name)


Verdict = tuple[str, str]  # outcome, reason


def _untried(_: Judged, second: Judged) -> Verdict | None:
    if second.finding.name not in _UNTRIED:
        return None
    return "unknown", f"it could not be tried to its end: {_first_line(second)}"


def _lost(first: Judged, second: Judged) -> Verdict | None:
    if second.finding.name not in _LOSS:
        return None
    return "no effect", f"connections are still lost: {_first_line(second)}{_attachment(second)}"


def _tracked(first: Judged, second: Judged) -> Verdict | None:
    if second.finding.name != "tracked":
        return None
    if first.finding.name == "tracked":
        return "no effect", f"connections are tracked as before: {_first_line(second)}{_attachment(second)}"
    return "hides", f"nothing is lost, but connections are still tracked: {_first_line(second)}{_attachment(second)}"


def _attached(_: Judged, second: Judged) -> Verdict | None:
    """Untracked, and yet not detached. Rules that say notrack explain it where no proof speaks against conntrack."""
    says = _sayers(second, True)
    if says:
        return "hides", f"nothing is tracked ({_first_line(second)}), but {says} that conntrack is still attached"
    hidden = second.proofs is not None and second.proofs.notrack
    if hidden and not _sayers(second, False):
        reason = f"rules with notrack are there, and whether conntrack is attached is unknown: {_first_line(second)}"
        return "hides", reason
    return None


def _fixed(_: Judged, second: Judged) -> Verdict:
    return "fixes", f"{_first_line(second)}{_attachment(second)}"


RULES: tuple[Callable[[Judged, Judged], Verdict | None], ...] = (_untried, _lost, _tracked, _attached, _fixed)


def _why_not_tried(first: Judged) -> str:
    if first.proofs is None or not first.proofs.holders_known:
        return "the rulesets could not be recorded, so what holds conntrack is unknown"
    if not first.held_by:
        return "nothing was found that holds conntrack, so there is nothing to remove"
    if commands(first.held_by):
        return "the cell was run without a second machine, so its commands were not tried"
    return f"no command is known that removes {_shown(first.held_by)}"


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
    return ", ".join(f"`{holder.rule}` of {holder.backend}" for holder in held_by)


def _first_line(judged: Judged) -> str:
    return judged.finding.reason.splitlines()[0]
