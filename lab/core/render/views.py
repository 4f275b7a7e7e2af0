"""What a report shows of a run: words and numbers in their order. What they look like is not decided here."""

from __future__ import annotations

from dataclasses import dataclass

from lab.core.render.report_groups import MARK_WORDS, Group, by_finding
from lab.core.render.timeline import Panel

Pairs = tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class StepView:
    """A command of the state, how it ended, and what it printed."""

    command: str
    ended: str
    output: str = ""


@dataclass(frozen=True)
class HolderView:
    """What holds conntrack, where it is, what to know of it, and what removes it, where it should be removed."""

    place: str
    rule: str
    note: str
    remove: str


@dataclass(frozen=True)
class MitigationView:
    """What came of removing the holders."""

    outcome: str
    reason: str
    commands: tuple[str, ...]
    advice: tuple[str, ...] = ()


@dataclass(frozen=True)
class CellView:
    """All that is shown of one cell."""

    anchor: str
    cell: str
    title: str
    kernel: str
    finding: str
    mark: str
    expected: str
    because: str
    in_short: str
    reason: str
    more_reason: str
    numbers: Pairs
    holders: tuple[HolderView, ...] | None
    mitigation: MitigationView | None
    proofs: Pairs
    disagreement: str
    steps: tuple[StepView, ...]
    log: tuple[str, ...] | None
    panels: tuple[Panel, ...]
    no_plots: str
    files: tuple[str, ...]

    @property
    def fix(self) -> str:
        """The command that removes the first holder, where conntrack is attached; empty where none is known."""
        attached = self.finding not in ("untracked", "state-refused", "skipped")
        return next((holder.remove for holder in self.holders or () if holder.remove), "") if attached else ""

    @property
    def mark_words(self) -> str:
        """The mark as people say it."""
        return MARK_WORDS[self.mark]


@dataclass(frozen=True)
class Outcome:
    """What a field of the matrix says; of repeats, how many said so and the first one's anchor."""

    anchor: str
    finding: str
    mark: str
    expected: str
    logged: bool
    count: int


@dataclass(frozen=True)
class StateView:
    """A state: its row of the matrix, in the order of the columns, and its cells."""

    anchor: str
    name: str
    summary: str
    fields: tuple[tuple[Outcome, ...], ...]
    cells: tuple[CellView, ...]


@dataclass(frozen=True)
class Report:
    """A run as a page shows it; `columns` are targets with their kernels."""

    name: str
    headline: str
    outcome: str
    findings: tuple[tuple[str, int], ...]  # how often each was made
    incomplete: bool
    columns: Pairs
    states: tuple[StateView, ...]
    facts: Pairs
    versions: tuple[tuple[str, tuple[str, ...]], ...]  # of a package in each target

    @property
    def cells(self) -> tuple[CellView, ...]:
        """Every cell, in the order in which they are shown."""
        return tuple(cell for state in self.states for cell in state.cells)

    @property
    def groups(self) -> tuple[Group, ...]:
        """The states by finding, where there is one column: a table of it would be thin."""
        return by_finding(self.states) if len(self.columns) == 1 else ()

    @property
    def opened(self) -> str:
        """The anchor of the cell to begin with: the first that is not as expected, or the only one; else empty."""
        first = self.unexpected[:1] or (self.cells if len(self.cells) == 1 else ())
        return first[0].anchor if first else ""

    @property
    def unexpected(self) -> tuple[CellView, ...]:
        """The cells that are not as expected, or whose proofs contradict each other."""
        return tuple(cell for cell in self.cells if cell.mark in ("DIFFERS", "unclear") or cell.disagreement)
