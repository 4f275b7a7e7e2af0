"""KTAP, the kernel's test protocol (Documentation/dev-tools/ktap.rst): a test for each target, cells as subtests."""

from __future__ import annotations

from collections.abc import Sequence

from lab.core.render.test_cases import Case, by_target
from lab.core.result import CellResult

_VERSION = "KTAP version 1"
_INDENT = "  "
_MOST_REASON_LINES = 20
# kselftest's own last line (ksft_print_cnts), by which people count; None: what the lab has no word for
_TOTALS = (
    ("pass", "passed"),
    ("fail", "failure"),
    ("xfail", None),
    ("xpass", None),
    ("skip", "skipped"),
    ("error", "error"),
)


def ktap(cells: Sequence[CellResult], folder: str = "") -> str:
    """A run as KTAP; `folder` is where its evidence lies.

    A finding that differs is `not ok`. An inconclusive one is `not ok` with the directive ERROR: what was to be tested
    could not be. A skipped one is `ok` with SKIP. The reason stands in lines above each result that is not plainly ok.
    """
    groups = by_target(cells, folder)
    lines = [_VERSION, f"1..{len(groups)}"]
    for number, (target, cases) in enumerate(groups.items(), start=1):
        lines += [f"{_INDENT}{line}" for line in _subtests(cases)]
        lines += _target(number, target, cases)
    outcomes = [case.outcome for cases in groups.values() for case in cases]
    counts = " ".join(f"{word}:{outcomes.count(outcome) if outcome else 0}" for word, outcome in _TOTALS)
    return "\n".join([*lines, f"# Totals: {counts}"]) + "\n"


def _subtests(cases: Sequence[Case]) -> list[str]:
    lines = [_VERSION, f"1..{len(cases)}"]
    for number, case in enumerate(cases, start=1):
        lines += [*_diagnostics(case), _result(number, case)]
    return lines


def _result(number: int, case: Case) -> str:
    timed = f"{case.headline} time={_milliseconds(case)}ms"
    directives = {"error": f"ERROR {case.headline}: {case.reason[0]}", "skipped": f"SKIP {case.reason[0]}"}
    verdict = "not ok" if case.outcome in ("failure", "error") else "ok"
    return f"{verdict} {number} {_name(case.name)} # {_plain(directives.get(case.outcome, timed))}"


def _diagnostics(case: Case) -> list[str]:
    """Why a result is not plainly ok. With the test's name first, as the kernel does: then no word of a guest can be
    taken for one of the lines that parsers know, such as `# Subtest: x`.
    """
    if case.outcome in ("passed", "skipped"):
        return []
    shown = case.reason[:_MOST_REASON_LINES]
    more = len(case.reason) - len(shown)
    rest = [f"{more} more lines in the evidence"] if more else []
    lines = (case.headline, *shown, *rest, f"evidence: {case.evidence}")
    return [f"# {_name(case.name)}: {line}".rstrip() for line in lines]


def _target(number: int, target: str, cases: Sequence[Case]) -> list[str]:
    """The parent's result: it fails with any of its subtests, and is skipped where all of them are."""
    name = _name(target)
    bad = sum(case.outcome in ("failure", "error") for case in cases)
    if bad:
        return [f"# {name}: {bad} of {len(cases)} are not ok", f"not ok {number} {name}"]
    skipped = all(case.outcome == "skipped" for case in cases)
    return [f"ok {number} {name}{' # SKIP nothing of it could run here' if skipped else ''}"]


def _name(text: str) -> str:
    """A description, in one word: no line that begins with it looks like another kind of line."""
    return _plain(text).replace(" ", "_") or "-"


def _plain(text: str) -> str:
    """Words without the one character that begins a directive: a guest's ` # SKIP` would make a failure a skip."""
    return " ".join(text.replace("#", "_").split())


def _milliseconds(case: Case) -> int:
    return round(case.seconds * 1000)
