"""What a soak has done and seen, for people and for the exit status."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field


@dataclass
class Tally:
    """Counts of cells by finding, of runs by fault, and everything that was wrong."""

    cells: Counter[str] = field(default_factory=Counter)
    mitigations: Counter[str] = field(default_factory=Counter)
    runs: Counter[str] = field(default_factory=Counter)
    effective: Counter[str] = field(default_factory=Counter)  # runs that the fault changed in a way that shows
    statuses: Counter[int] = field(default_factory=Counter)
    wrong: list[str] = field(default_factory=list)

    @property
    def cell_count(self) -> int:
        """All cells that have ended."""
        return sum(self.cells.values())

    def add_wrong(self, fault: str, what: str) -> None:
        """Note something that must not be."""
        self.wrong.append(f"{fault}: {what}")

    def text(self, seconds: float) -> str:
        """For people."""
        lines = [f"{self.cell_count} cells in {sum(self.runs.values())} runs, {seconds:.0f} s"]
        lines += [f"  {count:5} {name}" for name, count in self.cells.most_common()]
        lines += [f"  mitigations: {_listed(self.mitigations)}", f"  exit statuses: {_listed(self.statuses)}"]
        lines += ["  runs (with an effect that shows):"]
        lines += [f"  {count:5} ({self.effective[name]}) {name}" for name, count in sorted(self.runs.items())]
        return "\n".join([*lines, f"wrong: {len(self.wrong)}", *self.wrong])


def _listed(counts: Counter[str] | Counter[int]) -> str:
    return ", ".join(f"{name}: {count}" for name, count in sorted(counts.items())) or "none"
