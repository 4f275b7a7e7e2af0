"""Markdown: texts, tables and blocks of commands that stay what they are, whatever characters are in them."""

from __future__ import annotations

import re
from collections.abc import Sequence

from lab.core.text import printable

_MARKUP = re.compile(r"[\\*\[\]~]")
_CODE = re.compile(r"(`[^`]*`)")
_ANY_MARKUP = re.compile(r"[\\`*_\[\]~]")


def prose(text: str) -> str:
    """A line of a file's words; what stands between backticks is left as code."""
    parts = _CODE.split(text)
    return "".join(
        part if index % 2 else _MARKUP.sub(r"\\\g<0>", part).replace("<", "&lt;") for index, part in enumerate(parts)
    )


def words(text: str) -> str:
    """Anybody's words, as one line that begins no block: no character of them is markup."""
    return _ANY_MARKUP.sub(r"\\\g<0>", printable(text)).replace("&", "&amp;").replace("<", "&lt;")


def code(text: str) -> str:
    """Words as they are typed, in one line; no character of them ends it."""
    longest = max((len(run) for run in re.findall(r"`+", text)), default=0)
    fence = "`" * (longest + 1)
    return f"{fence} {text} {fence}" if longest else f"`{text}`"


def table_code(text: str) -> str:
    """Words that are code and nothing else, in a table too: a bar would end its cell, even behind a backslash."""
    return code(printable(text).replace("|", "\N{BROKEN BAR}") or "-")


def block(text: str, language: str = "sh") -> str:
    """Lines as they are typed, in a fence that none of them closes."""
    longest = max((len(run) for run in re.findall(r"`{3,}", text)), default=2)
    fence = "`" * (longest + 1)
    return f"{fence}{language}\n{text.rstrip()}\n{fence}"


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table of texts that are Markdown already."""
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join("| " + " | ".join(text.replace("|", "\\|") for text in line) + " |" for line in lines)
