"""The files in which publishers name the digests of their images, in the forms of sha256sum(1), of BSD, and bare."""

from __future__ import annotations

import fnmatch
import re

_GNU = re.compile(r"([0-9a-fA-F]{64}|[0-9a-fA-F]{128}) [ *](?:\./)?(\S+)")
_BSD = re.compile(r"SHA(?:256|512) \((\S+)\) = ([0-9a-fA-F]{64}|[0-9a-fA-F]{128})")
_BARE = re.compile(r"[0-9a-fA-F]{64}|[0-9a-fA-F]{128}")
_ALGORITHMS = {64: "sha256", 128: "sha512"}


def named_digests(text: str) -> dict[str, str]:
    """The digests in hexadecimal by file name; a file of nothing but a digest has it under an empty name."""
    found: dict[str, str] = {}
    lines = [line.strip() for line in text.splitlines()]
    for line in lines:
        if (gnu := _GNU.fullmatch(line)) is not None:
            found[gnu[2].rpartition("/")[2]] = gnu[1].lower()
        elif (bsd := _BSD.fullmatch(line)) is not None:
            found[bsd[1].rpartition("/")[2]] = bsd[2].lower()
    bare = [line for line in lines if _BARE.fullmatch(line)]
    return found or ({"": bare[0].lower()} if len(bare) == 1 else {})


def digest_of(text: str, pattern: str) -> tuple[str, str] | None:
    """The file name that a pattern means (`*` for what changes), the last by its numbers, and its digest; None where
    the text names none.
    """
    found = named_digests(text)
    names = [name for name in found if fnmatch.fnmatchcase(name, pattern)]
    if not names and "*" not in pattern and "" in found:
        return pattern, found[""]
    if not names:
        return None
    name = max(names, key=lambda one: [int(part) for part in re.findall(r"\d+", one)])
    return name, found[name]


def algorithm(digest: str) -> str:
    """sha256 or sha512, by the number of digits."""
    return _ALGORITHMS[len(digest)]
