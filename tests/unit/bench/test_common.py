"""What the benchmarks share: order of runs, statistics, and the lines that others read."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from bench import common
from bench.common import Metric, Summary, Table


def test_pairs_are_interleaved_and_a_warm_up_is_thrown_away() -> None:
    order: list[str] = []

    def run(name: str) -> int:
        order.append(name)
        return len(order)

    values = common.pairs(lambda: run("a"), lambda: run("b"), 2, warm_up=1)
    assert order == ["a", "b"] * 3
    assert values == [(3, 4), (5, 6)]


def test_rounds_take_every_variant_in_turn() -> None:
    order: list[str] = []

    def variant(name: str) -> int:
        order.append(name)
        return len(order)

    values = common.rounds({name: lambda name=name: variant(name) for name in "xyz"}, 2)  # type: ignore[misc]
    assert order == list("xyzxyz")
    assert values == {"x": [1, 4], "y": [2, 5], "z": [3, 6]}


def test_the_ratio_is_of_each_pair_not_of_the_medians() -> None:
    ratios = common.ratio_of_each([(9.0, 10.0), (50.0, 100.0), (180.0, 200.0)], lambda value: value)
    assert ratios == pytest.approx([0.9, 0.5, 0.9])
    assert common.summary(ratios).median == pytest.approx(0.9)


def test_a_summary_is_median_and_range() -> None:
    measured = common.summary([3.0, 1.0, 2.0])
    assert measured == Summary(3, 2.0, 1.0, 3.0)
    assert measured.spread == 1.0
    assert Summary(2, 12345.6, 9000.0, 20000.0).text() == "12,346 (9,000..20,000)"
    assert Summary(2, 0.951, 0.9, 1.0).text(2) == "0.95 (0.90..1.00)"
    with pytest.raises(ValueError, match="no values"):
        common.summary([])


@pytest.mark.parametrize(
    ("metric", "line"),
    [
        (Metric("hold", 0.9312, "ratio", 0.9), "hold 0.931 ratio target >=0.9 ok"),
        (Metric("hold", 0.9, "ratio", 0.9), "hold 0.9 ratio target >=0.9 ok"),
        (Metric("hold", 0.88, "ratio", 0.9), "hold 0.88 ratio target >=0.9 short"),
        (Metric("memory", 0.21, "KiB", 0.2, "lower"), "memory 0.21 KiB target <=0.2 short"),
        (Metric("memory", 0.01, "KiB", 0.2, "lower"), "memory 0.01 KiB target <=0.2 ok"),
        (Metric("rate", 48213.4, "1/s", 20000), "rate 48213 1/s target >=20000 ok"),
        (Metric("rate", 12.0, "1/s"), "rate 12 1/s target - -"),
        (Metric.of("guest", None, "ratio", 0.9, note="no QEMU"), "guest - ratio target >=0.9 unmeasured"),
    ],
)
def test_a_metric_is_a_line_of_six_words(metric: Metric, line: str) -> None:
    assert metric.line() == line
    assert len(line.split()) == 6


def test_a_metric_takes_the_median_of_its_summary() -> None:
    metric = Metric.of("hold", common.summary([0.8, 0.95, 0.97]), "ratio", 0.9)
    assert metric.median == 0.95
    assert metric.to_json()["summary"] == {"count": 3, "median": 0.95, "low": 0.8, "high": 0.97}
    assert metric.to_json()["verdict"] == "ok"


def test_a_table_aligns_its_columns() -> None:
    table = Table("hold", ("count", "ratio"), [("20,000", "0.95"), ("5,000", "1")], note="two cores")
    assert table.lines() == ["hold", "  count   ratio", "  20,000   0.95", "  5,000       1", "  (two cores)"]


def test_a_report_prints_tables_then_metric_lines_and_writes_json(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "results" / "load.json"
    metrics = [Metric("hold", 0.95, "ratio", 0.9), Metric("churn", 1.0, "1/s", 2.0, note="slow")]
    status = common.report("load", metrics, [Table("t", ("a", "b"), [("1", "2")])], path, {"raw": [1, 2]})
    printed = capsys.readouterr().out.splitlines()
    assert status == 1
    assert printed[0] == "t"
    assert printed[-2:] == ["hold 0.95 ratio target >=0.9 ok", "churn 1 1/s target >=2 short"]
    assert "churn: slow" in printed
    document = json.loads(path.read_text(encoding="utf-8"))
    assert document["benchmark"] == "load"
    assert [metric["verdict"] for metric in document["metrics"]] == ["ok", "short"]
    assert document["details"] == {"raw": [1, 2]}
    assert document["machine"]["processors"] >= 1


def test_the_exit_status_tells_whether_every_target_is_met(tmp_path: Path) -> None:
    def status(*metrics: Metric) -> int:
        return common.report("x", metrics, [], tmp_path / "x.json")

    assert status(Metric("a", 1.0, "s"), Metric("b", 1.0, "s", 2.0, "lower")) == 0
    assert status(Metric("a", 3.0, "s", 2.0, "lower")) == 1
    assert status(Metric("a", None, "s", 2.0)) == 1
