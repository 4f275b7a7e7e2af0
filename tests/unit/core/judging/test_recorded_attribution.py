"""States that mislead, recorded on 6.1 with what else moved on the machine: each is judged as what it truly is.

tests/golden/attribution/README.md says what each state does, and how the truth of it was measured.
"""

from __future__ import annotations

from collections.abc import Mapping

import pytest

from lab.core.judging.finding import judge
from lab.host.results.stored_cell import StoredCell
from tests.recordings import GOLDEN

CELLS = GOLDEN / "attribution" / "cells"

# the cell -> its finding, its largest class of loss and how many connections that has, words of its reason
TRUE: Mapping[str, tuple[str, tuple[str, int] | None, str]] = {
    "a1n-natural-udp-old": ("tracked", None, "all 500 connections had entries of their own"),
    "a3-other-tracked": ("untracked", None, "no entry of the 1000 connections; of anything else there were at most 40"),
    "a5-half-notrack": ("tracked", None, "500 of 1000 connections had entries of their own at the fullest moment (50%"),
    "b1-few-reset-many-drop": ("other-loss", ("a rule", 750), "5: refused (ECONNREFUSED 5 times"),
    "b10-full-and-drop": ("table-full", ("a rule", 750), "lost otherwise: 750: a rule"),
    "b3-ack-dropped": ("other-loss", ("a rule", 750), "1000 of 1000 connections were held, 250 accepted"),
    "b4-clash-drop": ("other-loss", ("a rule", 750), "--dport 7779:7784"),
    "b5b-clash-touch-hold": ("tracked", None, "for packets that were not the load's"),
    "b7c-blink-unseen": ("other-loss", ("a rule", 187), "--dport 7784"),
    "buckets-tiny": ("other-loss", ("hash chain too long", 4097), "raise the buckets"),
    "c1c-old-message": ("table-full", ("full table", 400), "was not logged during the load, but before it"),
    "container-noise": ("untracked", None, "for the full table of another network namespace"),
    "f1-netem": ("untracked", None, "all 600 of 600 connections were held"),
    "h1-netns-somaxconn": ("other-loss", ("accept backlog", 133), "TcpExt.ListenOverflows rose by 609"),
    "k1-at-chain": ("table-full", ("full table", 400), "100 of 500 connections were held"),
    "k9-notrack-comment": ("table-full", ("full table", 400), "100 of 500 connections were held"),
    "m1-number-shift": ("table-full", ("full table", 900), "100 of 1000 connections were held"),
    "m10-false-fixes": ("other-loss", ("a rule", 62), "--ctstate NEW -j DROP"),
    "m5-policy-drop": ("table-full", ("full table", 400), "100 of 500 connections were held"),
    "n2-newcomers-lost-pristine": ("other-loss", ("a rule", 50), "of 50 newcomers 0 got through"),
    "port-exhausted": ("other-loss", ("no free port for NAT", 200), "insert_failed rose by 800"),
}


def test_every_recorded_state_is_here() -> None:
    assert {path.name.partition("@")[0] for path in CELLS.iterdir()} == set(TRUE)


@pytest.mark.parametrize("state", TRUE)
def test_a_state_that_misleads_is_judged_as_what_it_is(state: str) -> None:
    expected, loss, words = TRUE[state]
    finding = judge(StoredCell(CELLS / f"{state}@debian12").evidence())
    largest = (finding.losses[0].cause, finding.losses[0].connections) if finding.losses else None
    assert (finding.name, largest, words in finding.reason) == (expected, loss, True), finding.reason
