"""Words made safe, short enough, and put under each other."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lab.core.text import aligned, printable, shortened


@given(st.text())
def test_printable_words_are_one_line_of_the_same_length(text: str) -> None:
    assert printable(text).isprintable()
    assert len(printable(text)) == len(text)
    assert printable(printable(text)) == printable(text)


@pytest.mark.parametrize(
    ("width", "text"),
    [
        (30, "nat-present@debian12"),
        (20, "nat-present@debian12"),
        (9, "nat-…an12"),
        (2, "n…"),
        (1, "n"),
        (0, ""),
        (-1, ""),
    ],
)
def test_both_ends_of_a_name_are_kept(width: int, text: str) -> None:
    assert shortened("nat-present@debian12", width) == text


def test_a_gap_of_ascii() -> None:
    assert shortened("nat-present@debian12", 9, "...") == "nat...n12"
    assert shortened("nat-present@debian12", 3, "...") == "nat"


@given(st.text(), st.integers(-3, 40), st.sampled_from(["…", "...", ""]))
def test_what_is_shortened_fits(text: str, width: int, gap: str) -> None:
    assert len(shortened(text, width, gap)) <= max(0, width)


def test_columns_stand_under_each_other() -> None:
    assert aligned([("a", "bb", "c"), ("aaa", "b", ""), ("", "", "ccc")]) == ["a    bb  c", "aaa  b", "         ccc"]
    assert aligned([]) == []
    assert aligned([()]) == [""]
