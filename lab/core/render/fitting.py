"""Texts that must not be longer than somebody takes: sections that give way from their ends, and say so."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

_MOST_COUNT = 10**9
_LINE_ENDS = 8  # of a section: between its parts, and before the next one


@dataclass(frozen=True)
class Section:
    """Lines between a head and a tail; of too many lines the last are left out."""

    head: str
    lines: tuple[str, ...]
    tail: str = ""


def utf8_bytes(text: str) -> int:
    """How many bytes a text takes in a file."""
    return len(text.encode("utf-8"))


def fitted(
    sections: Sequence[Section], limit: int, left_out: Callable[[int], str], size: Callable[[str], int] = len
) -> str:
    """The sections as one text of at most `limit`, in what `size` counts (characters); the first sections go first.

    `left_out` is the note on so many lines that did not fit. Where not even heads and tails fit, the note on
    everything is all that is left, or nothing.
    """
    note_size = size(left_out(_MOST_COUNT)) + _LINE_ENDS
    left = limit - sum(size(section.head) + size(section.tail) + note_size for section in sections)
    if left < 0:
        note = left_out(sum(len(section.lines) for section in sections))
        return note if size(note) <= limit else ""
    parts = []
    for section in sections:
        kept: list[str] = []
        for line in section.lines:
            if size(line) + 1 > left:
                break
            kept.append(line)
            left -= size(line) + 1
        missing = len(section.lines) - len(kept)
        note_lines = [left_out(missing)] if missing else []
        parts.append("\n".join(filter(None, [section.head, *kept, *note_lines, section.tail])))
    return "\n\n".join(parts)
