"""Words of guests and files, made safe to show, and put under each other."""

from __future__ import annotations

from collections.abc import Iterable, Sequence


def printable(text: str) -> str:
    """One line: nothing in it moves the cursor, begins a line, steers a terminal or ends an XML document."""
    return "".join(char if char.isprintable() else " " for char in text)


def shortened(text: str, width: int, gap: str = "…") -> str:
    """`text` in at most `width` characters. What is too long loses its middle, for names differ at both of their ends;
    `gap` stands there. Where not even a character beside the gap fits, the beginning is all that is left.
    """
    if len(text) <= width:
        return text
    kept = width - len(gap)
    if kept < 1:
        return text[: max(0, width)]
    return f"{text[: kept - kept // 2]}{gap}{text[len(text) - kept // 2 :]}"


def plural(count: int, noun: str, more: str = "") -> str:
    """`1 cell`, `2 cells`, `0 cells`; `more` is the plural of a noun that does not take an s."""
    return f"{count} {noun if count == 1 else more or f'{noun}s'}"


def columns(rows: Sequence[Sequence[str]]) -> list[int]:
    """The width of each column: of its longest text. All rows have as many texts."""
    return [max(map(len, column)) for column in zip(*rows, strict=True)]


def aligned(rows: Iterable[Sequence[str]]) -> list[str]:
    """Rows as lines in which the columns stand under each other, two spaces apart; no line ends with a space."""
    cells = [tuple(row) for row in rows]
    widths = columns(cells)
    return ["  ".join(text.ljust(width) for text, width in zip(row, widths, strict=True)).rstrip() for row in cells]
