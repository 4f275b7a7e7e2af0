"""Lists of SHA-256 digests, as sha256sum(1) of coreutils writes and checks them. Pure: text in, text out."""

from __future__ import annotations

import re
from collections.abc import Mapping

SUMS = "SHA256SUMS"

_LINE = re.compile(r"(?P<escaped>\\?)(?P<digest>[0-9a-f]{64})(?:  | \*)(?P<name>.+)")
# coreutils writes a backslash first where a name has one of these; the last came with 9.0
_ESCAPES = {"\\": "\\\\", "\n": "\\n", "\r": "\\r"}
_UNESCAPES = {escape: char for char, escape in _ESCAPES.items()}
_ESCAPE = re.compile(r"\\.", re.DOTALL)


def sums_text(digests: Mapping[str, str]) -> str:
    """The list of these files' digests, a line each; names are relative to where the list lies."""
    return "".join(f"{_line(name, digest)}\n" for name, digest in digests.items())


def parse_sums(text: str) -> dict[str, str]:
    """The digests by their files' names. Raises ValueError that names the line, also where a name leads elsewhere."""
    digests: dict[str, str] = {}
    # not splitlines(): a name may have a character in it that Python takes for the end of a line
    for number, line in enumerate(text.removesuffix("\n").split("\n") if text else (), start=1):
        match = _LINE.fullmatch(line)
        if match is None:
            raise ValueError(f"line {number} is no digest with a file's name")
        name = _unescaped(match["name"], number) if match["escaped"] else match["name"]
        if name.startswith("/") or "\0" in name or {"", ".", ".."} & set(name.split("/")):
            raise ValueError(f"line {number} names a file that is not below this folder: {name!r:.100}")
        if name in digests:
            raise ValueError(f"line {number} names a file again: {name!r:.100}")
        digests[name] = match["digest"]
    return digests


def _line(name: str, digest: str) -> str:
    escaped = "".join(_ESCAPES.get(char, char) for char in name)
    mark = "\\" if escaped != name else ""
    return f"{mark}{digest}  {escaped}"


def _unescaped(name: str, number: int) -> str:
    def char(match: re.Match[str]) -> str:
        if match[0] not in _UNESCAPES:
            raise ValueError(f"line {number} has an unknown escape: {match[0]!r}")
        return _UNESCAPES[match[0]]

    return _ESCAPE.sub(char, name)
