"""What may become of a text or a value between a guest, a disk and the lab: as data, so that a find shrinks to the
smallest change and prints itself.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from hypothesis import strategies as st

T = TypeVar("T")

MOST_CHARACTERS = 60_000
# what parsers look for
PIECES = ("\n", "\0", '"', "{", "}", "[", "]", "\\", "-", ":", ",", "=", "#", " " * 500, "\t", "0x", "9" * 40, "é")
# what takes the place of a value
STRANGE: tuple[Any, ...] = (
    None,
    0,
    "",
    [],
    {},
    True,
    -1,
    2**70,
    10**400,
    1.5,
    float("nan"),
    float("inf"),
    "\x1b[2J\ud800",
    "../../outside",
    "a" * 5000,
    [[]],
    {"": {}},
    [None] * 3,
)


@dataclass(frozen=True)
class Edit:
    """A change of the characters from `at` on, `count` of them."""

    kind: str
    at: int
    count: int
    piece: str

    def applied(self, text: str) -> str:
        """The text with this change, cut where it became too long."""
        at = self.at % (len(text) + 1)
        end = min(at + self.count, len(text))
        return _EDITS[self.kind](text, at, end, self.piece)[:MOST_CHARACTERS]


_EDITS: Mapping[str, Callable[[str, int, int, str], str]] = {
    "cut": lambda text, at, end, piece: text[:at] + text[end:],
    "put": lambda text, at, end, piece: text[:at] + piece + text[at:],
    "exchange": lambda text, at, end, piece: text[:at] + piece + text[end:],
    "double": lambda text, at, end, piece: text[:end] + text[at:],
    "turn": lambda text, at, end, piece: text[:at] + text[at:end][::-1] + text[end:],
    "end": lambda text, at, end, piece: text[:at],
}


def any_of(choices: Sequence[T]) -> st.SearchStrategy[T]:
    """As sampled_from, which prints all of them wherever it is used."""
    return st.integers(0, len(choices) - 1).map(lambda number: choices[number])


pieces = st.one_of(
    any_of(PIECES),
    st.builds(lambda piece, times: piece * times, any_of(PIECES), st.integers(2, 40)),
    st.text(max_size=5),
    st.integers().map(str),
)
edits = st.builds(Edit, st.sampled_from(sorted(_EDITS)), st.integers(0, MOST_CHARACTERS), st.integers(0, 2000), pieces)
several_edits = st.lists(edits, min_size=1, max_size=6)
json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=6,
)
values = any_of(STRANGE) | json_values


def edited(text: str, changes: Sequence[Edit]) -> str:
    """A text after all changes."""
    for change in changes:
        text = change.applied(text)
    return text


def changed_value(place: Any, way: Sequence[int], value: Any, *, removed: bool) -> bool:
    """Exchange or remove one value deep in a JSON document, in place; False where there is none.

    Each number of `way` chooses a member, the last one that leads anywhere the value.
    """
    for depth, number in enumerate(way):
        if not isinstance(place, dict | list) or not place:
            return False
        key: Any = sorted(place)[number % len(place)] if isinstance(place, dict) else number % len(place)
        inner = place[key]
        if depth == len(way) - 1 or not isinstance(inner, dict | list) or not inner:
            if removed:
                del place[key]
            else:
                place[key] = copy.deepcopy(value)  # a later change may reach into it, and other examples have it, too
            return True
        place = inner
    return False
