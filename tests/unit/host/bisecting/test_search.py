"""A scan and a bisection over simulated guests: what is run, what is used again, and what is said."""

from __future__ import annotations

from pathlib import Path

import pytest

from lab.core.bisecting.bisection import Limits, Verdict
from lab.core.bisecting.report import Bisection, bisection_text
from lab.core.bisecting.scan import scan_text
from lab.core.errors import ScenarioError
from lab.host.bisecting.search import bisect, scan
from tests.unit.host.bisecting.simulated import Guests, Interrupted, looking

CELLS = 4 * 4 + 2


@pytest.fixture
def guests(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Guests:
    """The finding is another one from 6.13 on."""
    made = Guests(tmp_path / "results", lambda kernel: "state-refused" if number(kernel) >= 13 else "tracked")
    made.install(monkeypatch)
    return made


def number(kernel: str) -> int:
    return int(kernel.partition(".")[2])


def search(guests: Guests, count: int = 20, limits: Limits | None = None) -> Bisection:
    return bisect(looking(guests, count), limits or Limits(), lambda line: None)


class TestBisection:
    def test_it_names_the_first_kernel_and_the_runs(self, guests: Guests) -> None:
        found = search(guests)
        assert found.answer.culprit == 13
        assert found.exit_status == 0
        text = bisection_text(found)
        assert "max-zero: tracked up to 6.12, state-refused from 6.13 on\n" in text
        assert "6.13    4      state-refused  <- the first one" in text
        assert "  6.12: it was tracked" in text
        compared = text.splitlines()[-2].split()
        assert compared[:2] == ["lab", "compare"]
        assert all((Path(run) / "manifest.json").is_file() for run in compared[2:4])
        assert compared[4:] == ["--match", "debian12+6.12=debian12+6.13"]
        document = found.to_json()
        assert (document["culprit"], document["before"], document["verdict"]) == ("6.13", "6.12", "found")
        assert document["kernels"][5]["findings"] == []
        # the ends and the way between them are 6 kernels; at four of them there are four looks
        assert found.work.boots == 6
        assert found.work.cells == len(guests.ran) == CELLS

    @pytest.mark.parametrize("stop_after", [*range(CELLS)])
    def test_broken_off_and_started_again_no_cell_is_run_twice(self, guests: Guests, stop_after: int) -> None:
        guests.stop_after = stop_after
        with pytest.raises(Interrupted):
            search(guests)
        guests.stop_after = None
        found = search(guests)
        assert found.answer.culprit == 13
        assert len(guests.ran) == CELLS
        assert (found.work.cells, found.work.reused_cells) == (CELLS - stop_after, stop_after)

    def test_a_second_time_nothing_is_run(self, guests: Guests) -> None:
        first = search(guests)
        second = search(guests)
        assert second.answer == first.answer
        assert (second.work.boots, second.work.cells, second.work.reused_cells) == (0, 0, CELLS)

    def test_what_another_question_left_is_not_used(self, guests: Guests) -> None:
        search(guests)
        bisect(looking(guests, 20, connections=200), Limits(), lambda line: None)
        assert len(guests.ran) == 2 * CELLS

    def test_a_damaged_run_is_passed_over(self, guests: Guests) -> None:
        search(guests)
        for path in guests.output.glob("*/manifest.json"):
            path.write_text("{")
        assert search(guests).answer.culprit == 13
        assert len(guests.ran) == 2 * CELLS

    def test_a_kernel_that_cannot_be_prepared_is_skipped_and_named(self, guests: Guests) -> None:
        guests.broken = {"/kernels/6.12": "6.12 holds no kernel"}
        lines: list[str] = []
        found = bisect(looking(guests, 20, lines), Limits(), lines.append)
        assert found.answer.verdict is Verdict.AMONG
        assert found.exit_status == 3
        text = bisection_text(found)
        assert "the change may be in any of 6.12, 6.13: those before the last have no finding" in text
        assert "6.12    1      skipped: 6.12 holds no kernel  <- may be the first one" in text
        assert "6.12: skipped: 6.12 holds no kernel" in lines

    def test_a_kernel_that_does_not_boot_is_skipped(self, guests: Guests) -> None:
        shows = guests.shows
        guests.shows = lambda kernel: "inconclusive" if kernel in ("6.10", "6.15") else shows(kernel)
        assert search(guests).answer.culprit == 13

    def test_kernels_of_equal_digest_are_run_once(self, guests: Guests) -> None:
        guests.digests = {f"/kernels/6.{number}": "e" * 64 for number in range(13, 20)}
        assert search(guests).answer.culprit == 13
        assert {kernel for kernel in guests.ran if number(kernel) >= 13} == {"6.19"}

    def test_equal_ends(self, guests: Guests) -> None:
        found = search(guests, 10)
        assert (found.answer.verdict, found.exit_status) == (Verdict.EQUAL, 2)
        assert "tracked at both ends: nothing changes between them" in bisection_text(found)

    def test_an_end_without_a_finding(self, guests: Guests) -> None:
        guests.broken = {"/kernels/6.0": "there are no modules of 6.0"}
        found = search(guests)
        assert found.exit_status == 3
        assert "6.0 is an end and has no finding: there are no modules of 6.0" in bisection_text(found)

    def test_a_third_finding_is_told(self, guests: Guests) -> None:
        shows = guests.shows
        guests.shows = lambda kernel: "evicted" if number(kernel) in (11, 12) else shows(kernel)
        text = bisection_text(search(guests))
        assert "max-zero: tracked up to 6.10, evicted from 6.11 on" in text
        assert "evicted is a third finding: the bad end shows state-refused; --good 6.11 finds where" in text

    def test_several_variants_are_refused(self, guests: Guests) -> None:
        looks = looking(guests, 4)
        looks.options = looks.options.__class__(scenarios=("nat-flushed",), output=guests.output)
        looks.__post_init__()
        with pytest.raises(ScenarioError, match="these are 2 variants: nat-flushed,iptables=legacy") as caught:
            bisect(looks, Limits(), lambda line: None)
        assert "--set" in caught.value.hint


class TestScan:
    def test_the_change_is_in_the_table_and_in_a_sentence(self, guests: Guests) -> None:
        guests.broken = {"/kernels/6.4": "it is cut off"}
        looks = looking(guests, 16)
        found = scan(looks, 1)
        lines = scan_text(found).splitlines()
        assert lines[0].split() == ["kernel", "max-zero"]
        assert lines[5].split() == ["6.4", "-"]
        assert lines[14].split() == ["6.13", "state-refused", "<-"]
        assert lines[-2:] == [
            "max-zero: tracked up to 6.12, state-refused from 6.13 on",
            "6.4: skipped: it is cut off",
        ]
        (change,) = found.to_json()["changes"]
        assert (change["last"], change["first"], change["skipped"]) == ("6.12", "6.13", [])
        # all in one run, for `lab report`; what was skipped is unclear
        assert guests.runs == 1
        assert looks.exit_status() == 1  # the simulated results expect something else

    def test_a_bisection_uses_what_a_scan_has_run(self, guests: Guests) -> None:
        scan(looking(guests, 20), 1)
        found = search(guests)
        assert found.answer.culprit == 13
        assert (found.work.boots, found.work.cells) == (0, 4 * 3)

    def test_where_nothing_changes_every_variant_is_a_column(self, guests: Guests) -> None:
        text = scan_text(scan(looking(guests, 3), 2))
        assert "max-zero: tracked on 3 kernels, nothing changes" in text
        assert text.splitlines()[1].split() == ["6.0", "tracked"]
