"""bench/fleet: what it makes of a run that was killed; nothing is run here."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from bench.fleet_faults import Outlived
from bench.guests import Run
from bench.on_a_fleet import VARIANTS, Measured, report_faults, report_overhead, words_of
from lab.host.options import RunOptions
from lab.host.run.planned import plan_run


def cell(name: str, finding: str) -> Mapping[str, Any]:
    return {"cell": name, "finding": finding, "as_expected": True, "tries": [{}]}


PLAIN = Run(0.0, (cell("a", "tracked"), cell("b", "untracked")), ())


def outlived(*cells: Mapping[str, Any], fetches: int = 1) -> Outlived:
    kills = Counter({"a": 2, "scheduler": 1})
    return Outlived(Run(60.0, cells, ()), Path(), [2, 0], kills, 1, {"a": 1, "b": fetches}, 0, {"verify": 0})


def verdicts(run: Outlived, compared: int = 0) -> dict[str, str]:
    measured = Measured()
    report_faults(measured, PLAIN, run, compared)
    return {metric.name: metric.verdict for metric in measured.metrics}


def test_a_run_that_kept_everything_is_ok() -> None:
    assert set(verdicts(outlived(*PLAIN.cells)).values()) == {"ok"}


def test_what_a_fleet_lost_or_found_otherwise_is_seen() -> None:
    seen = verdicts(outlived(cell("a", "untracked"), fetches=2), compared=1)
    short = {name.removeprefix("faults-") for name, verdict in seen.items() if verdict == "short"}
    assert short == {"results", "differing", "fetches", "compare"}


def test_the_words_mean_as_many_cells_as_was_asked_for(monkeypatch: pytest.MonkeyPatch, project_root: Path) -> None:
    monkeypatch.chdir(project_root)
    words = words_of(25)
    names, repeat = words[: words.index("--target")], int(words[-1])
    assert len(plan_run(RunOptions(scenarios=tuple(names), repeat=repeat)).plans) == 3 * VARIANTS


def test_the_overhead_is_the_median_of_the_turns() -> None:
    measured = Measured()
    seconds = [(51.0, 50.0), (60.0, 50.0), (52.0, 50.0)]
    turns = [(Run(ours, PLAIN.cells, ()), Run(theirs, PLAIN.cells, ())) for ours, theirs in seconds]
    report_overhead(measured, turns)
    (metric,) = measured.metrics
    assert (metric.median, metric.verdict) == (1.04, "ok")
    assert measured.tables[0].rows[1] == ("2", "60.0", "50.0", "1.200")
