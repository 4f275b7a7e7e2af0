"""Results as text: a table for people, and Markdown. Pure: records in, text out."""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping, Sequence

from lab.core.holders.groups import Group, groups
from lab.core.holders.model import Holder
from lab.core.render.command_words import command_words
from lab.core.result import CellResult
from lab.core.text import aligned, printable, shortened

_MARKUP = re.compile(r"[\\`*_\[\]|~]")
_HEADER = ("", "cell", "kernel", "finding", "expected", "held", "entries/max", "drops", "message", "seconds")
_MOST_NAME = 60  # characters of a name in a table's column
_MOST_LINE = 500
_OCCUPANCY = "entries over time"
_NO_TABLE = "no table"


def human_table(cells: Sequence[CellResult], occupancy: Mapping[str, str] | None = None) -> str:
    """Aligned columns, then the reason of every cell that is not as expected.

    `occupancy` are the sparklines of the cells (lab/core/render/occupancy.py) by their names; without any the table has
    no such column.
    """
    columns = [*zip(*_rows(cells), strict=True)]
    if occupancy:
        shown = ("-" if _has_no_table(cell) else occupancy.get(cell.cell) or "-" for cell in cells)
        columns.append((_OCCUPANCY, *shown))
    lines = aligned(zip(*columns, strict=True))
    for cell in cells:
        if cell.mark not in ("ok", "-"):
            lines += ["", f"{cell.cell}: {cell.mark}", *(f"  {line}" for line in cell.reason.splitlines())]
            if cell.because and cell.expected:
                lines.append(f"  expected {cell.expected}: {cell.because}")
        elif cell.mark == "-" and (cell.because or cell.finding == "state-refused"):
            # nothing was expected of it, so the exit status is silent
            lines += ["", f"{cell.cell}: {cell.finding}, and not judged"]
            lines += [f"  {line}" for line in (*cell.reason.splitlines(), cell.because) if line]
        if cell.holders and cell.finding not in ("untracked", "state-refused"):
            lines += ["", f"{cell.cell}: what holds conntrack", *_holders(cell.holders)]
            lines += _mitigation(cell)
        elif cell.mitigation:
            lines += ["", f"{cell.cell}: what holds conntrack is not known", *_mitigation(cell)]
        if cell.proofs and cell.proofs.disagreement:
            lines += ["", f"{cell.cell}: {cell.proofs.disagreement}"]
    return "\n".join(printable(line) for line in lines)


def _holders(found: Sequence[Holder]) -> list[str]:
    return [_group(group) for group in groups(tuple(found))]


def _group(group: Group) -> str:
    size = f" ({group.size}, for example in {group.example.chain or group.example.table})" if group.size else ""
    more = f" ({'; '.join(group.notes)})" if group.notes else ""
    remove = f"; fix: {shlex.join(group.remove)}" if group.remove else ""
    return f"  {shortened(group.place, _MOST_LINE)}{size}: {shortened(group.example.rule, _MOST_LINE)}{more}{remove}"


def _mitigation(cell: CellResult) -> list[str]:
    found = cell.mitigation
    if found is None:
        return []
    commands = (f"    {command_words(argv)}" for argv in found.commands)
    advice = (f"    {line}" for line in found.advice)
    return [f"  mitigated: {found.outcome} ({found.reason})", *commands, *advice]


def markdown_table(cells: Sequence[CellResult]) -> str:
    """The same as a Markdown table."""
    header, *rows = _rows(cells)
    rows = [header, tuple("---" for _ in header), *rows]
    return "\n".join("| " + " | ".join(_markdown(text) for text in row) + " |" for row in rows)


def one_line(cell: CellResult) -> str:
    """A cell's result in a line, for progress."""
    lost = len(cell.tries) - 1
    again = f" (after {lost} lost machine{'s' if lost > 1 else ''})" if lost > 0 else ""
    tried = f"; mitigated: {cell.mitigation.outcome}" if cell.mitigation else ""
    reason = shortened(next(iter(cell.reason.splitlines()), ""), _MOST_LINE)
    return printable(f"{cell.cell}: {cell.finding}, {cell.mark}{again}: {reason}{tried}")


def _rows(cells: Sequence[CellResult]) -> list[tuple[str, ...]]:
    """The header and a row for each cell; evictions and newcomers have columns where there were any."""
    evicted = any(cell.early_drops for cell in cells)
    newcomers = any(cell.newcomers for cell in cells)
    header = (*_HEADER, *["evicted"] * evicted, *["newcomers"] * newcomers)
    more = ([_shown(cell.early_drops, "-")] * evicted + [_newcomers(cell)] * newcomers for cell in cells)
    return [header, *((*_row(cell), *rest) for cell, rest in zip(cells, more, strict=True))]


def _newcomers(cell: CellResult) -> str:
    found = cell.newcomers
    return f"{found['held']}/{found['connections']}" if found else "-"


def _has_no_table(cell: CellResult) -> bool:
    """Whether nothing loaded conntrack: then there is nothing to count. What could not be read is inconclusive."""
    return cell.finding == "untracked" and cell.max is None and cell.entries_peak is None


def _row(cell: CellResult) -> tuple[str, ...]:
    connections = cell.connections
    entries = _NO_TABLE if _has_no_table(cell) else f"{_shown(cell.entries_peak)}/{_shown(cell.max)}"
    sent = " sent" if cell.newcomers else ""  # half-open and UDP: a packet that the kernel took
    logged = {True: "logged", False: "no", None: "?"}[cell.message_logged]
    return (
        cell.mark,
        cell.cell,
        shortened(_shown(cell.kernel_release), _MOST_NAME),
        cell.finding,
        _shown(cell.expected, "-"),
        f"{connections.held}/{connections.total}{sent}" if connections else "-",
        entries if connections else "-",
        _shown(cell.drops, "-" if _has_no_table(cell) else "?") if connections else "-",
        logged,
        f"{cell.seconds:.1f}",
    )


def _shown(value: object, unknown: str = "?") -> str:
    return unknown if value is None else str(value)


def _markdown(text: str) -> str:
    """A cell of a table: no character of it is markup."""
    return _MARKUP.sub(r"\\\g<0>", printable(text)).replace("<", "&lt;")
