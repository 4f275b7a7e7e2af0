"""The line of characters that shows how full the table was: unknown is never empty, and full is only what is full."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lab.core.evidence import Sample
from lab.core.render.occupancy import ASCII, BLOCKS, UNKNOWN, WIDTH, Marks, sparkline
from lab.host.results.samples import sparklines
from lab.host.results.stored_cell import StoredCell
from tests.recordings import GOLDEN

CELLS = GOLDEN / "cells"
FULL = "nat-present,iptables=nft@debian13"


def sample(seconds: float, entries: int | None, table_max: int | None = 100) -> Sample:
    return Sample(seconds, entries=entries, table_max=table_max, counters=None)


def line(*entries: int | None, marks: Marks = BLOCKS, width: int = WIDTH) -> str:
    return sparkline([sample(float(second), one) for second, one in enumerate(entries)], marks, width)


def test_a_table_that_fills() -> None:
    assert line(0, 1, 20, 50, 99, 100, 100) == "▁▂▃▅▇██ 6.0 s"
    assert line(0, 1, 20, 50, 99, 100, 100, marks=ASCII) == "_.:=*## 6.0 s"


def test_empty_and_full_are_only_what_they_say() -> None:
    assert line(0, 1, 99, 100, 101) == "▁▂▇██ 4.0 s"
    big = [sample(0.0, 1, 10**6), sample(1.0, 10**6 - 1, 10**6)]
    assert sparkline(big) == "▂▇ 1.0 s"


def test_what_is_unknown_is_seen() -> None:
    assert line(None, None, 5, None, 0) == "??▂?▁ 4.0 s"
    assert line(None, None, None) == UNKNOWN
    assert sparkline([sample(0.0, 5, None), sample(1.0, 5, 0), sample(2.0, 5)]) == "??▂ 2.0 s"
    assert sparkline([sample(0.0, 0, None), sample(1.0, 0, 0)]) == "▁▁ 1.0 s", "no entry is no entry of any max"
    assert sparkline([]) == ""


def test_many_samples_share_characters_and_the_fullest_moment_is_shown() -> None:
    assert line(*[0] * 50, 100, *[0] * 49, width=10) == "▁▁▁▁▁█▁▁▁▁ 99.0 s"
    assert line(*[None] * 5, 7, *[None] * 4, width=2) == "?▂ 9.0 s"


def test_a_time_without_samples_is_as_the_last_sample_left_it() -> None:
    samples = [sample(0.0, 0), sample(0.1, 100), sample(0.2, 50), sample(9.0, 100), sample(10.0, 100)]
    assert sparkline(samples) == "█▅▅▅█ 10.0 s"
    samples[2] = sample(0.2, None)
    assert sparkline(samples) == "█???█ 10.0 s"
    late = [sample(5.0, 0), sample(6.0, 0), sample(7.0, 0), sample(8.0, 0)]
    assert sparkline(late) == "??▁▁ 8.0 s", "of the time before the first sample nothing is known"


def test_samples_of_one_moment() -> None:
    assert line(100) == "█ 0.0 s"
    assert sparkline([sample(0.0, 3), sample(0.0, 100)]) == "██ 0.0 s"


@given(
    st.lists(
        st.tuples(
            st.floats(0, 10**6),
            st.none() | st.integers(-(10**20), 10**20),
            st.none() | st.integers(-(10**20), 10**20),
        ),
        max_size=80,
    ),
    st.sampled_from([BLOCKS, ASCII]),
)
def test_any_samples_make_one_line_of_known_characters(
    told: list[tuple[float, int | None, int | None]], marks: Marks
) -> None:
    samples = [sample(seconds, entries, most) for seconds, entries, most in sorted(told, key=lambda one: one[0])]
    shown, _, seconds = sparkline(samples, marks).partition(" ")
    assert set(shown) <= {*marks.all, UNKNOWN}
    assert len(shown) <= WIDTH
    assert bool(shown) == bool(samples)
    assert not seconds or seconds.endswith(" s")


def test_recorded_cells() -> None:
    full = sparkline(StoredCell(CELLS / FULL).samples())
    assert full.startswith("▁")
    assert "█" in full
    assert "█" not in sparkline(StoredCell(CELLS / "nat-flushed,iptables=nft@debian13").samples())
    assert sparkline(StoredCell(CELLS / "pristine@debian12").samples()) == UNKNOWN, (
        "no table, which is not an empty one"
    )


@pytest.mark.parametrize("text", ["{", "[]\n", '{"seconds": -1}\n', '{"seconds": 1, "count": 5}\n', "\xff"])
def test_samples_that_are_damaged_are_unknown(tmp_path: Path, text: str) -> None:
    evidence = tmp_path / "cells" / "x@y" / "evidence"
    evidence.mkdir(parents=True)
    (evidence / "samples.jsonl").write_text(text, encoding="latin-1")
    (tmp_path / "cells" / "z@y").mkdir()
    assert sparklines(tmp_path, BLOCKS) == {"x@y": UNKNOWN, "z@y": ""}


def test_results_without_cells_have_none(tmp_path: Path) -> None:
    assert sparklines(tmp_path, BLOCKS) == {}
