"""What a scenario expects, and which of its expectations speaks for a machine."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from lab.core.facts import Facts
from lab.core.scenario.condition import ALWAYS, Condition

AxisValue = str | int
Chosen = Mapping[str, AxisValue | tuple[AxisValue, ...]]  # of an axis its value, or the values of which it has one

# Everything that a cell can end with, and what the evidence of it is.
FINDING_EVIDENCE: Mapping[str, str] = {
    "untracked": "new connections created no entries, and all were held",
    "tracked": "new connections created entries, none was dropped, all were held",
    "table-full": "the table reached its max and the kernel's drop counter rose during the load",
    "evicted": "the table reached its max, early_drop rose, drop did not",
    "other-loss": "connections were lost although drop did not rise",
    "state-refused": "the starting state could not be reached",
    "inconclusive": "the guest was lost, the load fell short, or a needed counter does not exist on this kernel",
    "skipped": "the machine lacks what the scenario needs, so nothing was run",
}
# what can be expected: to be skipped is no statement about a kernel
FINDINGS = tuple(name for name in FINDING_EVIDENCE if name != "skipped")


@dataclass(frozen=True)
class Expectation:
    """A finding, and the conditions under which it is expected; a condition that is not stated always holds."""

    finding: str
    because: str = ""
    condition: Condition = ALWAYS
    axes: Chosen = field(default_factory=dict, hash=False)

    @property
    def unconditional(self) -> bool:
        """Whether it holds for every machine and variant."""
        return not self.condition.stated and not self.axes

    def covers(self, axes: Mapping[str, AxisValue], facts: Facts) -> bool:
        """Whether every condition holds; raises ValueError when that depends on something unknown."""
        return chosen_by(self.axes, axes) and self.condition.unmet(facts) is None


def chosen_by(chosen: Chosen, axes: Mapping[str, AxisValue]) -> bool:
    """Whether a variant with these axes has a value that was chosen, of every axis that is named."""
    return all(axes.get(axis) in (value if isinstance(value, tuple) else (value,)) for axis, value in chosen.items())


def expected_for(
    expectations: Iterable[Expectation], axes: Mapping[str, AxisValue], facts: Facts
) -> Expectation | None:
    """The first of a scenario's expectations that covers the cell; None when none does, which judges nothing.

    Raises ValueError when that depends on something that is not known of the machine.
    """
    return next((one for one in expectations if one.covers(axes, facts)), None)
