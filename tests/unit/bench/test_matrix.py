"""bench/matrix: what it makes of runs and of samples of memory; nothing is run here."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from bench import many_cells
from bench.guests import Run, children, memory_mb
from bench.many_cells import (
    FULL,
    KINDS,
    QUICK,
    SCENARIO,
    Grown,
    Measured,
    Memory,
    differences,
    grown_from,
    growth_tables,
    memory_metrics,
    whole,
)
from lab.host.scenario_files import load_scenario


def cell(name: str, finding: str, as_expected: bool | None = True, tries: int = 1) -> Mapping[str, Any]:
    return {"cell": name, "finding": finding, "as_expected": as_expected, "tries": [{}] * tries}


def run_of(*cells: Mapping[str, Any]) -> Run:
    return Run(1.0, cells, tuple(float(number + 1) for number in range(len(cells))))


def test_runs_that_found_the_same_do_not_differ_whatever_their_order() -> None:
    first, second = cell("a", "tracked"), cell("b", "untracked")
    assert differences(run_of(first, second), run_of(second, first)) == []


def test_every_cell_that_differs_or_is_missing_is_told() -> None:
    one = run_of(cell("a", "tracked"), cell("b", "untracked"), cell("c", "tracked"))
    other = run_of(cell("a", "tracked"), cell("b", "inconclusive", as_expected=False), cell("d", "tracked"))
    assert differences(one, other) == [
        "b: untracked, then inconclusive (not as expected)",
        "c: tracked, then missing",
        "d: missing, then tracked",
    ]


def test_a_run_has_its_last_cells_time_and_its_peaks() -> None:
    samples = [Memory(0.0, 0, 0.0, 0.0, 40.0), Memory(0.2, 2, 300.0, 360.0, 45.0), Memory(0.4, 1, 150.0, 180.0, 50.0)]
    grown = grown_from(run_of(cell("a", "tracked"), cell("b", "tracked", tries=2)), samples, 2)
    assert (grown.cells, grown.parallel, grown.seconds, grown.retried) == (2, 2, 2.0, 1)
    assert (grown.machines_mb, grown.resident_mb, grown.lab_mb, grown.peak_mb) == (300.0, 360.0, 50.0, 350.0)


def grown(cells: int, parallel: int) -> Grown:
    # 100 MB for each machine at once, 40 for the lab, and a tenth of a MB that each cell leaves behind
    return Grown(cells, parallel, 2.0 * cells / parallel, 100.0 * parallel, 140.0 * parallel, 40.0 + cells / 10, 0, 0.1)


def test_memory_of_a_further_cell_and_of_more_cells() -> None:
    runs = {(count, width): grown(count, width) for count in FULL.counts for width in FULL.parallel}
    further, flat = memory_metrics(runs, FULL)
    assert further.median == 100.0
    assert further.verdict == "ok"
    assert flat.name == "memory-100-to-10"
    assert flat.summary is not None
    assert 1.0 < flat.summary.low < flat.summary.high < 1.07
    seconds, memory = growth_tables(runs, FULL)
    assert seconds.rows[-1] == ("100", "200.0 (2.00)", "100.0 (1.00)", "50.0 (0.50)")
    assert memory.rows[0][1] == "100 (140) + 40"


def test_the_scenario_has_as_many_kinds_as_is_said() -> None:
    assert len(load_scenario(SCENARIO).matrix["table"]) == KINDS
    assert KINDS * FULL.repeats == 50


def test_a_process_that_has_gone_has_no_children_and_no_memory() -> None:
    gone = 2**22 + 1  # beyond the largest process id
    assert children(gone) == []
    assert memory_mb(gone) == (0.0, 0.0)


def test_a_whole_matrix_is_reckoned_in_310_cells(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    asked: list[tuple[list[str], Path | None]] = []

    def lab_run(words: list[str], strict: bool, keep: Path | None) -> Run:
        asked.append((words, keep))
        stages = {"stages_seconds": {"load": 3.0, "state": 1.0}}
        done = [{**cell(str(number), "tracked"), **stages} for number in range(61)]
        return Run(186.0, (*done, {**cell("last", "tracked", as_expected=False), **stages}), (186.0,))

    monkeypatch.setattr(many_cells, "lab_run", lab_run)
    measured = Measured(QUICK)
    whole(measured, tmp_path)
    ((words, keep),) = asked
    assert words[0] == "*" and words.count("--target") == 5 and keep == tmp_path
    assert [(metric.median, metric.target) for metric in measured.metrics] == [(930.0, 900.0), (61.0, 62.0)]
    assert measured.tables[0].rows == [("load", "186", "75%"), ("state", "62", "25%")]
