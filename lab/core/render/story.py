"""What a run showed, in a few sentences: where nothing was tracked, where the table filled, and what held conntrack."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from lab.core.result import CellResult
from lab.core.text import printable


def story(cells: Sequence[CellResult]) -> tuple[str, ...]:
    """The sentences, made from results; a cell that is neither `untracked` nor `table-full` has one of its own."""
    untracked = [cell for cell in cells if cell.finding == "untracked"]
    full = [cell for cell in cells if cell.finding == "table-full"]
    others = [cell for cell in cells if cell.finding not in ("untracked", "table-full")]
    sentences = [*_untracked(untracked), *_full(full), *_held_by(full)]
    sentences += [f"{cell.scenario}: {cell.finding}, as {cell.reason.splitlines()[0]}." for cell in others]
    return tuple(map(printable, sentences))


def _untracked(cells: Sequence[CellResult]) -> list[str]:
    if not cells:
        return []
    held = _range(cell.connections.held for cell in cells if cell.connections)
    return [f"Nothing was tracked in {_names(cells)}: each held its {held} connections without an entry in the table."]


def _full(cells: Sequence[CellResult]) -> list[str]:
    if not cells:
        return []
    drops = _range(cell.drops for cell in cells)
    most = _range(cell.max for cell in cells)
    return [f"The table filled in {_names(cells)}: at {most} entries the kernel dropped {drops} packets."]


def _held_by(cells: Sequence[CellResult]) -> list[str]:
    held = [(cell.scenario, holder.rule) for cell in cells for holder in cell.holders or ()]
    if not held:
        return []
    parts = (f"`{rule}` in {_and(name for name, held_by in held if held_by == rule)}" for rule in _each(held))
    return [f"What held conntrack: {'; '.join(parts)}."]


def _each(held: Iterable[tuple[str, str]]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(rule for _, rule in held))


def _names(cells: Iterable[CellResult]) -> str:
    return _and(cell.scenario for cell in cells)


def _and(words: Iterable[str]) -> str:
    *most, last = dict.fromkeys(words)
    return f"{', '.join(most)} and {last}" if most else last


def _range(numbers: Iterable[int | None]) -> str:
    """`100`, or `4,910 to 13,092`; `?` where none is known."""
    known = sorted(number for number in numbers if number is not None)
    return "?" if not known else " to ".join(f"{number:,}" for number in dict.fromkeys((known[0], known[-1])))
