"""What the parsers of the kernel's texts share: numbered lines, and integers as a kernel writes them."""

import re
from collections.abc import Iterator
from typing import Final

_INTEGER: Final = re.compile(r"-?[0-9]{1,20}", re.ASCII)
UNSIGNED: Final = re.compile(r"[0-9]{1,20}", re.ASCII)


def integer(text: str) -> int:
    """Read a file that holds one decimal integer, such as a sysctl or a module parameter. Raises `ValueError`."""
    return whole_number(text.strip(), "integer")


def numbered(text: str) -> Iterator[tuple[int, str]]:
    """The lines that are not blank, each with its number in the text."""
    return ((number, line) for number, line in enumerate(text.split("\n"), start=1) if line.strip())


def whole_number(text: str, where: str) -> int:
    # int() alone would take "1_000", " 7" and digits of other scripts, none of which a kernel writes
    if not _INTEGER.fullmatch(text):
        raise ValueError(f"{where}: {text[:40]!r} is not an integer")
    return int(text)
