"""What is drawn of a cell: lines from its samples, and the kernel's messages on the load's clock."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import pytest

from lab.core.evidence import Sample
from lab.core.kernel.kmsg import records
from lab.core.render.timeline import MOST, Driven, Panel, message_seconds, panels
from lab.host.results.records import readable_parts
from lab.host.results.stored_cell import StoredCell
from tests.recordings import GOLDEN
from tests.records import changed, stored

FULL = "nf_conntrack: nf_conntrack: table full, dropping packet"
RESULT = stored({})
LOAD = Driven()


def sample(seconds: float, **changes: Any) -> Sample:
    return Sample(seconds, **{"entries": 0, "table_max": 100, "counters": None, **changes})


def load_of(document: Mapping[str, Any]) -> Driven:
    """As a report reads it."""
    return readable_parts(Driven, document).record or Driven()


def lines(panel: Panel) -> dict[str, list[float | None]]:
    return {line.kind: [value for _, value in line.points] for line in panel.lines}


def test_the_table_and_the_connections_over_time() -> None:
    samples = [sample(0.0), sample(0.5, entries=60, attempted=200, held=60), sample(1.0, entries=100, attempted=300)]
    table, connections = panels(samples, RESULT, LOAD, ())
    assert lines(table) == {"entries": [0, 60, 100], "max": [100, 100, 100]}
    assert table.summary == "Entries in 1.0 s: 0 at first, 100 at last, at most 100; max 100."
    assert lines(connections) == {"held": [0, 60, 0, 0], "stalled": [0, 140, 300, 300]}
    assert (table.seconds, table.top, connections.top) == (1.0, 100, 300)


def test_the_end_of_the_load_is_the_last_point() -> None:
    """The clients tell what became of their connections when the load has ended: no sample may have it."""
    counts = {"held": 100, "stalled": 190, "failed": 4, "lost": 6}
    result = changed(RESULT, connections=counts)
    table, connections = panels([sample(0.0), sample(1.0)], result, Driven(seconds=2.5), ())
    last = {line.kind: line.points[-1] for line in connections.lines}
    assert last == {"held": (2.5, 100), "stalled": (2.5, 190), "failed": (2.5, 10)}
    assert table.seconds == connections.seconds == 2.5
    assert connections.summary == "Connections in 2.5 s: at last 100 held, 190 without an answer, 10 failed or lost."


def test_unknown_entries_are_gaps_and_no_table_is_no_plot() -> None:
    late = [sample(0.0, entries=None, table_max=None), sample(1.0, entries=5)]
    assert lines(panels(late, RESULT, LOAD, ())[0]) == {"entries": [None, 5], "max": [None, 100]}
    absent = [sample(float(second), entries=None, table_max=None, held=second) for second in range(3)]
    (connections,) = panels(absent, RESULT, LOAD, ())
    assert connections.title == "Connections held and stalled, over time"


def test_a_max_of_zero_is_no_bound() -> None:
    table, _ = panels([sample(0.0, table_max=0), sample(1.0, table_max=0, entries=7)], RESULT, LOAD, ())
    assert lines(table) == {"entries": [0, 7]}
    assert "no max" in table.summary


@pytest.mark.parametrize("samples", [[], [sample(0.0)], [sample(0.0), sample(0.0)]])
def test_too_few_samples_are_not_drawn(samples: list[Sample]) -> None:
    assert panels(samples, RESULT, LOAD, ()) == ()


@pytest.mark.parametrize("changes", [{"entries": MOST + 1}, {"held": 10**400}, {"attempted": MOST * 2}])
def test_what_is_no_count_is_refused(changes: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="a number above 1,000,000,000,000"):
        panels([sample(0.0), sample(1.0, **changes)], RESULT, LOAD, ())


@pytest.mark.parametrize("seconds", [None, "1", math.nan, -1, 10**9, True])
def test_a_load_without_a_usable_end_ends_with_its_samples(seconds: object) -> None:
    assert panels([sample(0.0), sample(3.0)], RESULT, load_of({"seconds": seconds}), ())[0].seconds == 3.0


def test_other_loads_have_words_and_lines_of_their_own() -> None:
    samples = [sample(0.0, open=0), sample(1.0, open=20, held=90, attempted=100, newcomers_held=7)]
    churn = panels(samples, RESULT, Driven("churn"), ())[1]
    assert churn.title == "Connections over time"
    assert set(lines(churn)) == {"held", "stalled", "open", "newcomers"}
    assert panels(samples, RESULT, Driven("udp"), ())[1].title == "Datagrams over time"
    assert panels(samples, RESULT, Driven("of tomorrow"), ())[1].title.startswith("Connections held")
    assert "open" not in lines(panels(samples, RESULT, LOAD, ())[1])


def test_the_first_message_is_put_at_the_first_drop() -> None:
    log = records(f"5,1,900,-;other\n4,2,1000000,-;{FULL}\n12,3,1100000,-;{FULL}\n4,4,1250000,-;{FULL}\n")
    assert message_seconds(log, 0.5) == (0.5, 0.75)
    assert message_seconds(log, None) == ()
    assert message_seconds(records("5,1,900,-;other\n"), 0.5) == ()


def test_marks_after_the_end_are_left_out() -> None:
    table, _ = panels([sample(0.0), sample(1.0)], changed(RESULT, first_drop_seconds=0.5), LOAD, (0.5, 0.75, 30.0))
    assert (table.first_drop_seconds, table.message_seconds) == (0.5, (0.5, 0.75))
    assert table.summary.endswith("the first drop at 0.50 s; 2 times the kernel's message.")
    assert (
        panels([sample(0.0), sample(1.0)], changed(RESULT, first_drop_seconds=9), LOAD, ())[0].first_drop_seconds
        is None
    )


def test_a_real_cell() -> None:
    cell = GOLDEN / "cells" / "nat-present,iptables=nft@debian13"
    evidence = StoredCell(cell).evidence()
    assert evidence.kernel_log is not None and evidence.load is not None
    seconds = message_seconds(records(evidence.kernel_log), 0.4)
    table, connections = panels(
        evidence.samples, changed(RESULT, first_drop_seconds=0.4), load_of(evidence.load), seconds
    )
    assert len(table.message_seconds) == 10
    assert table.lines[0].top == table.lines[1].top == 100
    assert max(value or 0 for value in lines(connections)["stalled"]) == 200


def test_the_seconds_in_which_things_happen_are_shown() -> None:
    quiet = [sample(second / 2, entries=100, attempted=300, held=100) for second in range(2, 26)]
    samples = [sample(0.0), sample(0.5, entries=60, attempted=200, held=60), *quiet]
    at_end = {"held": 100, "stalled": 203, "failed": 0, "lost": 0}  # three more than the last sample knew of
    table, connections = panels(samples, changed(RESULT, connections=at_end), Driven(seconds=13.0), ())
    assert table.seconds == connections.seconds == 1.25
    assert table.title == "Entries against max, over time: 1.2 of 13.0 s, then nothing moves"
    assert list(table.lines[0].points) == [(0.0, 0), (0.5, 60), (1.0, 100), (1.25, 100)]
    assert connections.summary.startswith("Connections in 13.0 s: at last 100 held, 203 without")


def test_what_moves_late_is_shown_whole() -> None:
    quiet = [sample(second / 2, entries=100, attempted=300, held=100) for second in range(2, 26)]
    end = sample(13.0, entries=40, attempted=300, held=100)
    at_end = {"held": 100, "stalled": 200, "failed": 0, "lost": 0}
    all_lost = {"held": 0, "stalled": 200, "failed": 0, "lost": 100}
    for samples, counts in (([*quiet, end], at_end), (quiet, all_lost)):
        found = panels([sample(0.0), *samples], changed(RESULT, connections=counts), Driven(seconds=13.0), ())
        assert found[0].seconds == 13.0
