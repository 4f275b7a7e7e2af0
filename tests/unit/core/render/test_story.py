"""The sentences that scripts/reproduce ends with, on recorded results."""

from __future__ import annotations

import pytest

from lab.core.render.story import story
from lab.core.result import CellResult
from tests.records import changed, reference_cells

TOLD = ("pristine", "nat-present", "nat-flushed", "nat-listed", "wrong-backend-flushed", "nat-flushed-always-on")


@pytest.fixture
def cells() -> list[CellResult]:
    """What the reference run found for the story's states, with legacy rules on Debian 12."""
    recorded = reference_cells()
    return [
        cell
        for name in TOLD
        for cell in recorded
        if cell.scenario == name and cell.target == "debian12" and cell.axes.get("iptables") != "nft"
    ]


def test_the_story_of_recorded_results(cells: list[CellResult]) -> None:
    full = [cell.drops or 0 for cell in cells if cell.finding == "table-full"]
    assert story(cells) == (
        "Nothing was tracked in pristine, nat-flushed and nat-listed: each held its 20,000 connections without an "
        "entry in the table.",
        "The table filled in nat-present, wrong-backend-flushed and nat-flushed-always-on: at 100 entries the kernel "
        f"dropped {min(full):,} to {max(full):,} packets.",
        "What held conntrack: `-A POSTROUTING -o eth0 -j MASQUERADE` in nat-present and wrong-backend-flushed; "
        "`options nf_conntrack enable_hooks=1` in nat-flushed-always-on.",
    )


def test_what_fits_no_sentence_has_its_own(cells: list[CellResult]) -> None:
    lost = changed(cells[0], finding="inconclusive", reason="the machine was lost: \x1b[2J\nmore", drops=None)
    assert story([lost]) == ("pristine: inconclusive, as the machine was lost:  [2J.",)


def test_unknown_numbers_are_no_zeros(cells: list[CellResult]) -> None:
    (full,) = (cell for cell in cells if cell.scenario == "nat-present")
    unknown = changed(full, drops=None, max=None, holders=None)
    assert story([unknown]) == ("The table filled in nat-present: at ? entries the kernel dropped ? packets.",)
