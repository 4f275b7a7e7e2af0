"""What GitHub Actions reads: workflow commands in the log, and the Markdown of a step's summary.

The runner takes a line for a command where it begins with `::`, blanks before that not counted, or has `##[` anywhere
(actions/runner, ActionCommand.cs). So a guest's words are kept from looking like either.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

from lab.core.render.fitting import Section, fitted, utf8_bytes
from lab.core.render.markdown import block, table_code
from lab.core.render.test_cases import PASSED, Case, case
from lab.core.text import printable

if TYPE_CHECKING:  # every command prints through here, and few of them read results
    from lab.core.result import CellResult

# a step's summary that is larger is refused as a whole
MOST_SUMMARY_BYTES = 1024 * 1024
# of each kind and step; GitHub drops the others without a word
MOST_ANNOTATIONS = 10

_DATA = {"%": "%25", "\r": "%0D", "\n": "%0A"}
_PROPERTY = {**_DATA, ":": "%3A", ",": "%2C"}
_COMMAND_START = re.compile(r"(?:^|(?<=[\r\n]))(\s*):(?=:)")
_OLD_COMMAND = "##["

_LEVELS = {"failure": "error", "error": "warning"}
_MARKS = {"failure": "DIFFERS", "error": "unclear"}
_NAMES = {"failure": "not as expected", "error": "unclear", "skipped": "skipped", PASSED: "as expected"}
_HEADER = ("", "cell", "kernel", "finding", "expected", "entries/max", "drops", "seconds")
_MOST_MESSAGE = 1000
_MOST_REASON_LINES = 30


def harmless(text: str) -> str:
    """The text with a blank in whatever the runner would take for a command."""
    return _COMMAND_START.sub(r"\1: ", text).replace(_OLD_COMMAND, "## [")


def harmless_json(text: str) -> str:
    """JSON that means the same, without the runner's older form of a command; no line of it begins with `::`."""
    return text.replace(_OLD_COMMAND, "##\\u005b")


def command(name: str, message: str, **properties: str) -> str:
    """A workflow command: one line, whatever is in its message and properties."""
    pairs = ",".join(f"{key}={_escaped(value, _PROPERTY)}" for key, value in properties.items())
    return f"::{name}{f' {pairs}' if pairs else ''}::{_escaped(message, _DATA)}"


def workflow_commands(cells: Sequence[CellResult], folder: str = "") -> list[str]:
    """An error for each finding that differs, a warning for each cell that is inconclusive.

    At most MOST_ANNOTATIONS of each; where there are more, the last one says how many are left out.
    """
    cases = [case(cell, folder) for cell in cells]
    lines: list[str] = []
    for outcome, level in _LEVELS.items():
        found = [entry for entry in cases if entry.outcome == outcome]
        shown = found if len(found) <= MOST_ANNOTATIONS else found[: MOST_ANNOTATIONS - 1]
        lines += [_annotation(level, entry) for entry in shown]
        if more := len(found) - len(shown):
            lines.append(command(level, f"{more} more cells: {_MARKS[outcome]}; the step's summary has them"))
    return lines


def run_summary(cells: Sequence[CellResult], folder: str, limit_bytes: int = MOST_SUMMARY_BYTES) -> str:
    """A run as Markdown of at most `limit_bytes`: the counts, why what is not as expected is not, and every cell.

    What does not fit is counted. All words of guests and files are code in it: no markup, no link, no mention.
    """
    cases = [case(cell, folder) for cell in cells]
    counts = {outcome: sum(entry.outcome == outcome for entry in cases) for outcome in _NAMES}
    outcomes = ", ".join(f"{count} {_NAMES[outcome]}" for outcome, count in counts.items() if count)
    unexpected = [entry for outcome in _LEVELS for entry in cases if entry.outcome == outcome]
    rows = [_line(map(table_code, _row(cell, entry))) for cell, entry in zip(cells, cases, strict=True)]
    count = f"{len(cases)} cell{'s' if len(cases) != 1 else ''}"
    head = f"### conntrack-lab: {count}, {outcomes or 'none ended'}\n\nResults: {table_code(folder)}"
    table = f"{_line(_HEADER)}\n{_line(['---'] * len(_HEADER))}"
    folded = f"<details><summary>All cells ({len(cells)})</summary>\n\n{table}"
    sections = [
        Section(head, ()),
        Section("", tuple(map(_why, unexpected))),
        Section(folded, tuple(rows), "\n</details>\n"),
    ]
    return fitted(sections, limit_bytes, _left_out, utf8_bytes)


def _annotation(level: str, entry: Case) -> str:
    message = f"{entry.headline}: {' '.join(entry.reason)[:_MOST_MESSAGE]}\nevidence: {entry.evidence}"
    return command(level, message, title=f"{entry.name}@{entry.target}")


def _escaped(text: str, escapes: Mapping[str, str]) -> str:
    # printable but for line ends: nothing else in a message steers a terminal or the log
    shown = "\n".join(map(printable, text.splitlines()))
    return "".join(escapes.get(char, char) for char in shown)


def _why(entry: Case) -> str:
    """Why a cell is not as expected: its finding, and its reason in a block that no line of it can end."""
    shown = list(entry.reason[:_MOST_REASON_LINES])
    more = [f"... and {len(entry.reason) - len(shown)} more lines"] if len(entry.reason) > len(shown) else []
    text = "\n".join(line[:_MOST_MESSAGE] for line in (*shown, *more))
    head = f"**{_MARKS[entry.outcome]}** {table_code(f'{entry.name}@{entry.target}')}: {table_code(entry.headline)}"
    return f"{head}, evidence in {table_code(entry.evidence)}\n\n{block(text, 'text')}\n"


def _row(cell: CellResult, entry: Case) -> list[str]:
    numbers = (cell.drops, cell.entries_peak, cell.max)
    drops, peak, most = ("?" if number is None else str(number) for number in numbers)
    return [
        cell.mark,
        f"{entry.name}@{entry.target}",
        cell.kernel_release or "?",
        entry.finding,
        cell.expected or "-",
        f"{peak}/{most}",
        drops,
        f"{entry.seconds:.1f}",
    ]


def _line(texts: Iterable[str]) -> str:
    return f"| {' | '.join(texts)} |"


def _left_out(count: int) -> str:
    return f"\n{count} more are left out here, for GitHub takes no larger summary; results.json has them."
