"""bench/verdict: what it reads from a kernel's log and a load's samples; nothing is run here."""

from __future__ import annotations

import json

import pytest

from bench.common import BenchError
from bench.first_drop import SCENARIO, drop_of, drops_text, first_with_a_drop, lag_of
from bench.guests import Apart
from lab.core.evidence import parse_samples
from lab.host.results.recording import Recording
from lab.host.scenario_files import load_scenario

# the log's clock is 1.5 s behind CLOCK_MONOTONIC; the second record was logged later after its reading of the clock
LOG = """\
13,700,8000000,-;conntrack-lab: first-drop begins
13,701,8500000,-;conntrack-lab-bench: clock 10.000000
13,702,8500900,-;conntrack-lab-bench: clock 10.000500
4,703,9000000,-;nf_conntrack: nf_conntrack: table full, dropping packet
 SUBSYSTEM=net
4,704,9000200,-;nf_conntrack: nf_conntrack: table full, dropping packet
13,705,9002000,-;conntrack-lab-bench: drop 10.499000 10.501500 873
"""

STAT = "entries  searched drop early_drop\n00000064  00000000 {:08x} 00000000\n00000064  00000000 00000000 00000000\n"


def samples(*rows: tuple[float, int]) -> list[str]:
    return [json.dumps({"seconds": at, "stat": STAT.format(drops), "held": 1, "attempted": 2}) for at, drops in rows]


def test_the_first_drop_is_told_in_the_clock_of_the_samples() -> None:
    drop = drop_of(LOG)
    assert drop.by_message == pytest.approx(10.5)
    assert (drop.after, drop.before, drop.looks) == (10.499, 10.5015, 873)


def test_without_a_watcher_there_is_the_message_alone() -> None:
    drop = drop_of("\n".join(line for line in LOG.splitlines() if "drop 10" not in line))
    assert drop.by_message == pytest.approx(10.5)
    assert (drop.after, drop.before, drop.looks) == (None, None, None)


@pytest.mark.parametrize("missing", ["clock", "table full"])
def test_a_log_without_clock_or_message_tells_nothing(missing: str) -> None:
    with pytest.raises(BenchError, match="no clock, or no message"):
        drop_of("\n".join(line for line in LOG.splitlines() if missing not in line))


def test_the_lag_ends_with_the_first_sample_that_shows_the_drop() -> None:
    recording = Recording(
        load={"started_monotonic_seconds": 10.25, "seconds": 1.4},
        samples=samples((0.0, 3), (0.05, 3), (0.2, 3), (0.29, 7), (0.34, 9)),
        kernel_log=LOG,
    )
    apart = Apart(recording, 0.3, 0.2, destroy_seconds=0.02, load_ended_at=100.0, ended_at=100.6)
    lag = lag_of(apart, "table-full", load_seconds=1.1, judge_seconds=0.05)
    assert lag.from_message_ms == pytest.approx(40.0, abs=0.1)
    assert lag.from_watcher_ms == pytest.approx(41.0, abs=0.1)
    assert lag.window_ms == pytest.approx(2.5, abs=0.01)
    assert lag.sample_gap_ms == pytest.approx(90.0, abs=0.1)
    assert lag.end_seconds == pytest.approx(1.1 + 0.6 + 0.02)


def test_a_load_that_does_not_tell_its_start_cannot_be_measured() -> None:
    apart = Apart(Recording(load={"seconds": 1.4}), 0.3, 0.2, 0.02)
    with pytest.raises(BenchError, match="started_monotonic_seconds"):
        lag_of(apart, "table-full", 1.0, 0.0)


def test_samples_without_a_drop_are_no_measurement() -> None:
    with pytest.raises(BenchError, match="no sample"):
        first_with_a_drop(parse_samples(samples((0.0, 3), (0.05, 3))))


def test_a_change_on_any_processor_is_a_drop() -> None:
    assert drops_text(STAT.format(0)) != drops_text(STAT.format(1))


def test_the_scenario_is_one_that_the_lab_reads() -> None:
    assert load_scenario(SCENARIO).matrix["watched"] == ("yes", "no")
