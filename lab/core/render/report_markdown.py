"""A report as Markdown: the matrix, and the reasons of what is not as expected. It fits a comment on a change."""

from __future__ import annotations

from collections.abc import Sequence

from lab.core.render.markdown import block, code, table, words
from lab.core.render.report_groups import MARK_WORDS
from lab.core.render.views import CellView, Outcome, Report

# A comment has room for 65,536 characters; the counts and the matrix tell of the others.
_MOST_REASONS = 50
_MOST_REASON = 700


def markdown(report: Report, made_by: str) -> str:
    """The report's Markdown; no text of a guest is more than text in it, or calls anybody."""
    parts = [
        f"<!-- {made_by} -->",
        f"# {words(report.headline)}",
        f"Run {words(report.name)}.",
        *(["**The run did not end:** only the cells that had ended are here."] if report.incomplete else []),
        _matrix(report),
        "\n".join(_legend(report)),
        *_unexpected(report.unexpected),
        "## The run",
        "\n".join(f"- {words(name)}: {words(value)}" for name, value in report.facts) or "Not recorded.",
    ]
    return "\n\n".join(parts) + "\n"


def _matrix(report: Report) -> str:
    header = ["state", *(f"{words(target)}<br>{_quoted(kernel)}" for target, kernel in report.columns)]
    rows = [
        [words(state.name), *("; ".join(map(_outcome, field)) for field in state.fields)] for state in report.states
    ]
    return table(header, rows)


def _outcome(outcome: Outcome) -> str:
    differs = outcome.mark in ("DIFFERS", "unclear") and outcome.expected
    finding = words(outcome.finding)
    found = f"**{finding}**, not {words(outcome.expected)}" if differs else finding
    return f"{found}{', L' * outcome.logged}{f' ({outcome.count}x)' * (outcome.count > 1)}"


def _legend(report: Report) -> list[str]:
    lines = ["- L: the kernel logged `table full`."]
    if report.unexpected:
        lines.append("- **Bold**: not as expected; the expected finding stands behind it.")
    return lines


def _unexpected(cells: Sequence[CellView]) -> list[str]:
    if not cells:
        return []
    more = [f"... and {len(cells) - _MOST_REASONS:,} more."] if len(cells) > _MOST_REASONS else []
    parts = ["## Not as expected"]
    for cell in cells[:_MOST_REASONS]:
        parts += [f"### {words(cell.cell)}: {MARK_WORDS[cell.mark]}", _reason(cell)]
        if cell.more_reason:
            parts.append(block(cell.more_reason[:_MOST_REASON], ""))
    return [*parts, *more]


def _reason(cell: CellView) -> str:
    lines = [f"- {words(cell.finding)}: {_quoted(cell.reason)}"]
    if cell.expected and cell.mark != "ok":
        because = f": {_quoted(cell.because)}" if cell.because else ""
        lines.append(f"- expected {words(cell.expected)}{because}")
    for holder in cell.holders or ():
        note = f" ({words(holder.note)})" if holder.note else ""
        lines.append(f"- held by {words(holder.place)}: {_quoted(holder.rule)}{note}")
    if cell.mitigation:
        lines.append(f"- mitigated: {words(cell.mitigation.outcome)}: {_quoted(cell.mitigation.reason)}")
        lines += [f"- {words(line)}" for line in cell.mitigation.advice]
    lines += [f"- {words(cell.disagreement)}"] if cell.disagreement else []
    return "\n".join(lines)


def _quoted(text: str) -> str:
    """A guest's or a file's words: as code they are no link and name nobody."""
    return code(" ".join(text.split())[:_MOST_REASON])
