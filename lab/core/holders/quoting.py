"""Lines of a text whose quoted words may hold anything, line ends too. No pattern here steps back: all are linear."""

import re
from collections.abc import Iterator
from typing import Final

# A comment is a line by itself; what stands in it is no quote.
_COMMENT: Final = r"[ \t]*+#[^\n]*+"
# nft's lexer: "[^"]*" without escapes. xtables_save_string(): a backslash before ", ' and itself.
NFT_LINE: Final = re.compile(rf'{_COMMENT}|(?:[^"\n]++|"[^"]*+")*+')
SAVED_LINE: Final = re.compile(rf'{_COMMENT}|(?:[^"\n]++|"(?:[^"\\]++|\\.)*+")*+', re.DOTALL)

_SAVED_WORD: Final = re.compile(
    r'"(?P<quoted>(?:[^"\\]++|\\.)*+)"(?!\S)|(?P<bare>[^\s"]++)(?!")|(?P<blank>\s++)', re.DOTALL
)
_ESCAPE: Final = re.compile(r"\\(.)", re.DOTALL)


def quoted_lines(text: str, line: re.Pattern[str], what: str) -> Iterator[tuple[int, str]]:
    """Each line of `text` with the number it begins at; a quoted word that spans line ends does not end it.

    `line` is NFT_LINE or SAVED_LINE. Raises ValueError, which begins with `what`, where a quote is not closed.
    """
    number, place = 1, 0
    while place <= len(text):
        found = line.match(text, place)
        end = len(text) if found is None else found.end()
        if end < len(text) and text[end] != "\n":
            raise ValueError(f"{what} line {number}: a quotation mark is not closed: {text[place : place + 60]!r}")
        part = text[place:end]
        yield number, part
        number += 1 + part.count("\n")
        place = end + 1


def saved_words(text: str) -> tuple[str, ...]:
    """The words of a rule as iptables-restore splits them. Raises ValueError for a quote that is part of a word."""
    if '"' not in text:
        return tuple(text.split())
    words: list[str] = []
    place = 0
    while place < len(text):
        match = _SAVED_WORD.match(text, place)
        if match is None:
            raise ValueError(f"a quotation mark inside of a word: {text[place : place + 60]!r}")
        place = match.end()
        if match["quoted"] is not None:
            words.append(_ESCAPE.sub(r"\1", match["quoted"]))
        elif match["bare"] is not None:
            words.append(match["bare"])
    return tuple(words)
