"""What is compared, and what comes of it: runs, samples of repeats, and a verdict for each cell that both have."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, TypeVar

from lab.core.comparing.differences import Difference
from lab.core.comparing.matching import TargetPair
from lab.core.comparing.significance import LEVEL
from lab.core.manifest import Manifest
from lab.core.result import CellResult
from lab.core.text import plural

# 1 - first version of what --format json prints.
COMPARE_VERSION = 1

_T = TypeVar("_T")

# the least by which medians must differ, as a share of the larger one, for numbers to be called different
LEAST_SHARE = 0.1
NO_FINDING = ("inconclusive", "skipped")
# findings that cannot be told to be the same or not: exit status 3 where none changed
_UNTOLD = ("unclear", "not-comparable")


@dataclass(frozen=True)
class Number:
    """A number of a result that is compared; medians that differ by less than `least` are the same."""

    name: str
    least: float
    of: Callable[[CellResult], float | None]


NUMBERS = (
    Number("held", 1, lambda cell: cell.connections.held if cell.connections else None),
    Number("drops", 1, lambda cell: cell.drops),
    # two samples at 20 Hz
    Number("first_drop_seconds", 0.1, lambda cell: cell.first_drop_seconds),
)


@dataclass(frozen=True)
class Run:
    """A run as it is stored; `meanings` are those of its scenarios whose files it keeps."""

    name: str
    manifest: Manifest
    cells: tuple[CellResult, ...]
    meanings: Mapping[str, Mapping[str, Any]] = field(default_factory=dict, hash=False)

    @property
    def targets(self) -> tuple[str, ...]:
        """The targets of the cells, each once, in their order."""
        return tuple(dict.fromkeys(cell.target for cell in self.cells))

    def to_json(self) -> dict[str, Any]:
        """As in a comparison's `base` and `new`."""
        made = self.manifest
        return {
            "run": self.name,
            "tool_version": made.tool_version,
            "started_at": made.started_at,
            "complete": made.complete,
        }


@dataclass(frozen=True)
class Sample:
    """The repeats of one variant on one target in one run."""

    target: str
    cells: tuple[CellResult, ...]

    @cached_property
    def findings(self) -> Mapping[str, int]:
        """How often each finding came; what is inconclusive or skipped is none."""
        return Counter(cell.finding for cell in self.cells if cell.finding not in NO_FINDING)

    @property
    def size(self) -> int:
        """How many findings there are."""
        return sum(self.findings.values())

    @property
    def only_finding(self) -> str | None:
        """The finding of all repeats that have one; None where they vary, or none has one."""
        return next(iter(self.findings)) if len(self.findings) == 1 else None

    @property
    def untold(self) -> tuple[CellResult, ...]:
        """The cells that are inconclusive where the scenario does not expect that."""
        return tuple(cell for cell in self.cells if cell.mark == "unclear")

    @property
    def logged(self) -> Mapping[str, int]:
        """How often the kernel's message was there, and how often not; where that is unknown is left out."""
        seen = (cell.message_logged for cell in self.cells if cell.finding not in NO_FINDING)
        return Counter("logged" if logged else "not logged" for logged in seen if logged is not None)

    @property
    def reasons(self) -> Mapping[str, str]:
        """Each finding with its reason, that of its first repeat."""
        return {cell.finding: cell.reason for cell in reversed(self.cells) if cell.finding not in NO_FINDING}

    def values(self, number: Number) -> tuple[float, ...]:
        """A number in every repeat that has a finding and the number."""
        found = (number.of(cell) for cell in self.cells if cell.finding not in NO_FINDING)
        return tuple(value for value in found if value is not None)

    def to_json(self) -> dict[str, Any]:
        """As in a compared cell's `base` and `new`."""
        return {
            "target": self.target,
            "cells": [cell.cell for cell in self.cells],
            "kernel_releases": distinct(cell.kernel_release for cell in self.cells),
            "findings": dict(self.findings),
            "expected": distinct(cell.expected for cell in self.cells),
            "reasons": dict(self.reasons),
            "without_finding": [
                {"cell": cell.cell, "finding": cell.finding, "reason": cell.reason}
                for cell in self.cells
                if cell.finding in NO_FINDING
            ],
            "message": {"logged": self.logged["logged"], "known": sum(self.logged.values())},
            "numbers": {number.name: list(self.values(number)) for number in NUMBERS},
        }


@dataclass(frozen=True)
class Answer:
    """What a test says; `differs` is None where none was made, and `why` then says why not."""

    p_value: float | None = None
    corrected_p_value: float | None = None
    differs: bool | None = None
    why: str | None = None

    def to_json(self) -> dict[str, Any]:
        """As in a compared cell's `tests`."""
        return dict(vars(self))


@dataclass(frozen=True)
class ComparedCell:
    """A variant on a pair of targets, in both runs."""

    label: str
    variant: str
    scenario: str
    base: Sample
    new: Sample
    verdict: str  # changed, same, unclear, not-comparable, no-finding
    reason: str
    tests: Mapping[str, Answer] = field(hash=False)  # of finding, message, and each of NUMBERS

    def to_json(self) -> dict[str, Any]:
        """As in a comparison's `cells`."""
        return {
            "cell": self.label,
            "variant": self.variant,
            "scenario": self.scenario,
            "verdict": self.verdict,
            "reason": self.reason,
            "base": self.base.to_json(),
            "new": self.new.to_json(),
            "tests": {name: answer.to_json() for name, answer in self.tests.items()},
        }


@dataclass(frozen=True)
class Comparison:
    """Two runs, compared."""

    base: Run
    new: Run
    targets: tuple[TargetPair, ...]
    cells: tuple[ComparedCell, ...]
    only_base: tuple[str, ...]
    only_new: tuple[str, ...]
    unfinished: tuple[str, ...]  # a sentence for each run that did not end and lacks cells of the other
    differences: tuple[Difference, ...]
    missing: tuple[str, ...] = ()  # cells of BASE that NEW lacks and ought to have
    strict: bool = False  # what cannot be told is as bad as a change

    @property
    def verdicts(self) -> Mapping[str, int]:
        """How many cells have each verdict."""
        return Counter(cell.verdict for cell in self.cells)

    @property
    def verdict(self) -> str:
        """changed, unclear, incomplete (nothing else is wrong, but NEW lacks cells), or same."""
        if self.verdicts["changed"]:
            return "changed"
        if self.unfinished or any(self.verdicts[name] for name in _UNTOLD):
            return "unclear"
        return "incomplete" if self.missing else "same"

    @property
    def exit_status(self) -> int:
        """1 a finding changed, 3 none did, but something could not be told (1 where that is strict), else 0."""
        untold = 1 if self.strict else 3
        return {"changed": 1, "unclear": untold, "incomplete": untold, "same": 0}[self.verdict]

    @property
    def summary(self) -> str:
        """One sentence with the numbers of cells."""
        words = (
            ("changed", "changed"),
            ("same", "did not"),
            ("unclear", "cannot be told"),
            ("not-comparable", "cannot be compared"),
            ("no-finding", "without a finding in both"),
        )
        counts = [f"{self.verdicts[name]} {text}" for name, text in words if self.verdicts[name] or name == "changed"]
        lacks = f"; NEW lacks {plural(len(self.missing), 'cell')} of BASE" if self.missing else ""
        return f"of {plural(len(self.cells), 'cell')} {', '.join(counts)}{lacks}"

    def to_json(self) -> dict[str, Any]:
        """What --format json prints."""
        return {
            "schema_version": COMPARE_VERSION,
            "verdict": self.verdict,
            "exit_status": self.exit_status,
            "summary": self.summary,
            "base": self.base.to_json(),
            "new": self.new.to_json(),
            "targets": [dict(vars(pair)) for pair in self.targets],
            "differences": [difference.to_json() for difference in self.differences],
            "cells": [cell.to_json() for cell in self.cells],
            "only_base": list(self.only_base),
            "only_new": list(self.only_new),
            "missing": list(self.missing),
            "unfinished": list(self.unfinished),
            "method": {
                "level": LEVEL,
                "correction": "holm",
                "least_share": LEAST_SHARE,
                "least": {number.name: number.least for number in NUMBERS},
            },
        }


def distinct(values: Iterable[_T | None]) -> list[_T]:
    """The values that are known, each once."""
    return [value for value in dict.fromkeys(values) if value is not None]
