"""A strict reader of KTAP, version 1 (Documentation/dev-tools/ktap.rst), for tests of what the lab writes.

Stricter than the kernel's own: every line must be of a known kind, plans are required and must be kept, numbers count
from 1, and a parent's result must follow from its subtests'.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field

_PLAN = re.compile(r"1\.\.(\d+)")
_RESULT = re.compile(r"(ok|not ok) (\d+) ([^#]*[^# ])(?: # (?:(SKIP|TODO|XFAIL|TIMEOUT|ERROR)(?: |$))?([^#]*))?")
_INDENT = 2


class KtapError(ValueError):
    """A line that is not as the specification has it; the message begins with its number."""


@dataclass
class Outcome:
    """A result, with its subtests and the diagnostic lines directly before it."""

    ok: bool
    name: str
    directive: str | None = None
    data: str = ""
    diagnostics: list[str] = field(default_factory=list)
    subtests: list[Outcome] = field(default_factory=list)

    @property
    def failed(self) -> bool:
        """Whether it counts as failed: `not ok`, and not skipped."""
        return not self.ok and self.directive != "SKIP"


def parse_ktap(text: str) -> tuple[list[Outcome], list[str]]:
    """The tests of a document, and the diagnostic lines after the last of them. Raises KtapError."""
    if not text.endswith("\n"):
        raise KtapError("the last line has no end")
    lines = text.removesuffix("\n").split("\n")
    tests, diagnostics, used = _tests(lines, 0, 0)
    if used != len(lines):
        raise KtapError(f"{used + 1}: is of no known kind: {lines[used]!r}")
    return tests, diagnostics


def _tests(lines: list[str], start: int, level: int) -> tuple[list[Outcome], list[str], int]:
    """The tests of one level from the line `start` on; also what is left of its diagnostics, and where it ended."""
    indent = " " * (_INDENT * level)

    def line(number: int) -> str:
        return lines[number][len(indent) :] if number < len(lines) and lines[number].startswith(indent) else ""

    if line(start) != "KTAP version 1":
        raise KtapError(f"{start + 1}: is no version line: {lines[start]!r}")
    plan = _PLAN.fullmatch(line(start + 1))
    if plan is None:
        raise KtapError(f"{start + 2}: is no plan")
    tests: list[Outcome] = []
    diagnostics: list[str] = []
    subtests: list[Outcome] = []
    number = start + 2
    while number < len(lines):
        if line(number) == f"{' ' * _INDENT}KTAP version 1":
            if subtests:
                raise KtapError(f"{number + 1}: subtests again, without a result between")
            subtests, rest, number = _tests(lines, number, level + 1)
            if rest:
                raise KtapError(f"{number}: a diagnostic that belongs to no subtest")
        elif line(number).startswith("#"):
            diagnostics.append(line(number).removeprefix("#").strip())
            number += 1
        elif match := _RESULT.fullmatch(line(number)):
            test = Outcome(match[1] == "ok", match[3], match[4], match[5] or "", diagnostics, subtests)
            _check(test, int(match[2]), len(tests) + 1, number + 1)
            tests.append(test)
            diagnostics, subtests = [], []
            number += 1
        else:
            break
    if subtests:
        raise KtapError(f"{number}: subtests without a result of their parent")
    if len(tests) != int(plan[1]):
        raise KtapError(f"{number}: {plan[1]} were planned, {len(tests)} are there")
    return tests, diagnostics, number


def _check(test: Outcome, number: int, expected: int, line: int) -> None:
    if number != expected:
        raise KtapError(f"{line}: is number {number}, not {expected}")
    if test.directive in ("TIMEOUT", "ERROR") and test.ok:
        raise KtapError(f"{line}: {test.directive} and ok")
    if test.subtests and test.failed != any(one.failed for one in test.subtests):
        raise KtapError(f"{line}: its result is not what its subtests' are")
