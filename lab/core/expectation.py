"""What a scenario expects, and which of its expectations speaks for a kernel."""

from __future__ import annotations

import fnmatch
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from lab.core.version import KernelSpec, parse_release

if TYPE_CHECKING:
    from lab.core.scenario import Scenario

AxisValue = str | int

# Everything that a cell can end with, and what the evidence of it is.
FINDING_EVIDENCE: Mapping[str, str] = {
    "untracked": "new connections created no entries, and all were held",
    "tracked": "new connections created entries, none was dropped, all were held",
    "table-full": "the table reached its max and the kernel's drop counter rose during the load",
    "evicted": "the table reached its max, early_drop rose, drop did not",
    "other-loss": "connections were lost although drop did not rise",
    "state-refused": "the starting state could not be reached",
    "inconclusive": "the guest was lost, the load fell short, or a needed counter does not exist on this kernel",
}
FINDINGS = tuple(FINDING_EVIDENCE)


@dataclass(frozen=True)
class Expectation:
    """A finding, and the conditions under which it is expected; a condition that is not stated always holds."""

    finding: str
    because: str = ""
    kernel: KernelSpec | None = None
    target: str | None = None  # a glob
    axes: Mapping[str, AxisValue] = field(default_factory=dict, hash=False)

    @property
    def unconditional(self) -> bool:
        """Whether it holds for every kernel, target and variant."""
        return self.kernel is None and self.target is None and not self.axes

    def covers(self, axes: Mapping[str, AxisValue], kernel_release: str, target: str) -> bool:
        """Whether every condition holds; raises ValueError when a condition needs a release that is none."""
        return (
            all(axes.get(name) == value for name, value in self.axes.items())
            and (self.target is None or fnmatch.fnmatchcase(target, self.target))
            and (self.kernel is None or self.kernel.matches(parse_release(kernel_release)))
        )


def expected_for(
    scenario: Scenario, axes: Mapping[str, AxisValue], kernel_release: str, target: str
) -> Expectation | None:
    """The first expectation of the scenario that covers the cell; None when none does, which judges nothing.

    Raises ValueError when an expectation asks for the kernel and `kernel_release` is no kernel release.
    """
    return next((one for one in scenario.expectations if one.covers(axes, kernel_release, target)), None)
