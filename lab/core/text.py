"""Words of guests and files, made safe to show."""

from __future__ import annotations


def printable(text: str) -> str:
    """One line: nothing in it moves the cursor, begins a line or steers a terminal."""
    return "".join(char if char.isprintable() else " " for char in text)
