"""bench/load: how the floor is spread, what is made of the runs, and each kind of run once, small."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from bench import engine, floor
from bench.common import BenchError
from bench.engine import ENGINE, FLOOR, RING_FLOOR, Bench, Report
from bench.floor import Place, Way

PLACE = Place(processors=2, fd_limit=20_000)
GUEST = Place(processors=2, fd_limit=1_048_576)


def option(argv: Sequence[str], name: str) -> int:
    return int(argv[argv.index(f"--{name}") + 1])


@pytest.mark.parametrize(
    ("layout", "connections", "place", "processes"),
    [
        ("apart", 20_000, PLACE, 2),
        ("apart", 100_000, PLACE, 6),  # 19,872 descriptors for each
        ("pairs", 9_000, PLACE, 2),
        ("pairs", 20_000, PLACE, 3),  # two descriptors for each connection
        ("pairs", 100_000, PLACE, 11),
        ("pairs", 100_000, GUEST, 2),
    ],
)
def test_the_floor_takes_as_many_processes_as_the_limits_ask_for(
    layout: str, connections: int, place: Place, processes: int
) -> None:
    way = Way(layout)
    assert way.processes(connections, place) == processes
    argv = way.argv("./floor", "hold", connections, place)
    assert option(argv, "processes") == processes
    listeners = option(argv, "listeners") * processes
    assert listeners >= 8
    assert connections / listeners <= 4096


def test_the_floor_is_built_once_for_its_source(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if shutil.which("cc") is None:
        pytest.skip("no C compiler")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    built = floor.build()
    made = built.stat().st_mtime_ns
    assert os.access(built, os.X_OK)
    assert floor.build() == built
    assert built.stat().st_mtime_ns == made


def test_without_a_compiler_it_is_said_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "which", lambda name: None)
    with pytest.raises(BenchError, match="install gcc"):
        floor.build()


class Fake:
    """Answers runs with made-up seconds: what each label takes in each turn."""

    def __init__(self, **seconds: list[float]) -> None:
        self.seconds = {label.replace("_", " "): values for label, values in seconds.items()}
        self.order: list[str] = []

    def __call__(self, runs: Sequence[engine.Run]) -> list[engine.Result]:
        return [self._result(run) for run in runs]

    def _result(self, run: engine.Run) -> engine.Result:
        label = run["label"]
        turn = self.order.count(label)
        self.order.append(label)
        seconds = self.seconds.get(label, [1.0] * 9)[turn]
        connections = run.get("connections") or run["request"]["connections"]
        return {
            "label": label,
            "connections": connections,
            "seconds": seconds,
            "cpu_seconds": seconds / 2,
            "count_up_seconds": 0.01,
            "processes": 2,
            "engine": "io_uring",
            "grown_kib": {"Pss": connections / 10},
            "tcp": {"ListenOverflows": 0, "TCPSynRetrans": 0},
        }


def bench(execute: Callable[[Sequence[engine.Run]], list[engine.Result]], pairs: int = 3) -> Bench:
    return Bench("native", execute, "./floor", PLACE, pairs)


def test_variants_run_in_turn_and_ratios_are_of_a_turn() -> None:
    fake = Fake(engine=[2.0, 8.0, 4.0], C_floor=[1.0, 6.0, 3.0], **{RING_FLOOR: [1.0, 4.0, 2.0]})
    into = Report()
    engine.measure_hold(bench(fake), 20_000, (Way(), Way(client="ring")), (ENGINE,), into)
    assert fake.order == [ENGINE, FLOOR, RING_FLOOR] * 3
    ratio, cpu, of_ring = into.metrics
    assert ratio.line() == "hold-20000-native 0.75 ratio target >=1.05 short"
    assert cpu.line() == "hold-20000-native-cpu 100 us target - -"  # 4 s of time, 2 s of CPU, 20,000 connections
    assert of_ring.line() == "hold-20000-native-of-ring 0.5 ratio target >=0.85 short"
    assert into.tables[0].rows[0][0] == ENGINE


def test_a_kernel_without_io_uring_has_one_floor() -> None:
    def execute(runs: Sequence[engine.Run]) -> list[engine.Result]:
        return [{"label": run["label"], "error": "floor: io_uring_setup: Function not implemented"} for run in runs]

    assert engine.choose_ring_way(bench(execute), 20_000, (Way(client="ring"),), 1) is None
    into = Report()
    engine.measure_hold(bench(Fake()), 20_000, (Way(), None), (ENGINE,), into)
    assert [row[3] for row in into.tables[0].rows] == ["?", "?"]


def test_the_fastest_way_is_the_floor() -> None:
    slow, fast = Way("apart"), Way("pairs")
    fake = Fake(**{slow.text: [3.0, 3.0], fast.text: [2.0, 2.5]})
    assert engine.choose_way(bench(fake), "hold", 20_000, (slow, fast), 2) is fast


def test_the_target_of_a_kind_is_never_more_than_the_kernel_can() -> None:
    into = Report()
    fake = Fake(engine=[4.0] * 9, C_floor=[4.0] * 9)
    engine.measure_kinds(bench(fake), (Way(),), 1, into)
    churn, churn_of_c, half_open, half_open_of_c, udp, udp_of_c = into.metrics
    assert churn.line() == "churn-native 10000 1/s target >=10000 ok"
    assert "10,000" in churn.note
    assert [half_open.target, udp.target] == [15_000, 15_000]
    assert [churn_of_c.target, half_open_of_c.target, udp_of_c.target] == [None, 0.8, 0.8]


def test_memory_is_per_connection_of_both_sides() -> None:
    into = Report()
    engine.measure_memory(bench(Fake()), Way(), into)
    assert into.metrics[0].line() == "memory-20000-native 0.1 KiB target <=0.2 ok"


def test_a_run_that_failed_stops_the_benchmark() -> None:
    def execute(runs: Sequence[engine.Run]) -> list[engine.Result]:
        return [{"label": run["label"], "error": "no room"} for run in runs]

    with pytest.raises(BenchError, match="native: engine: no room"):
        bench(execute).compare({ENGINE: engine.engine_run(10)})


def test_overflows_are_told() -> None:
    result: dict[str, Any] = {"tcp": {"ListenOverflows": 3, "TCPSynRetrans": 0}}
    assert engine._retried({"a": [result]}) == "; a: ListenOverflows 3"
    assert engine._retried({"a": []}) == ""


def drive(tmp_path: Path, *runs: engine.Run) -> list[engine.Result]:
    plan = tmp_path / "plan.json"
    plan.write_text(json.dumps({"limit_seconds": 60, "runs": runs}))
    argv = [sys.executable, "-m", "bench.drive", str(plan)]
    done = subprocess.run(argv, capture_output=True, text=True, timeout=120, check=False)
    results = [json.loads(line) for line in done.stdout.splitlines()]
    if any("no network namespace" in result.get("error", "") for result in results):
        pytest.skip("no network namespaces for this user")
    assert len(results) == len(runs), done.stderr
    return results


def test_every_kind_of_run_is_driven_in_a_namespace_of_its_own(tmp_path: Path) -> None:
    if shutil.which("cc") is None:
        pytest.skip("no C compiler")
    program = str(floor.build())
    place = Bench("native", Fake(), program, Place(2, 1024), 1)
    runs = [
        engine.engine_run(60, memory=True),
        *(place.floor_run(way, mode, 60) for way in floor.QUICK_WAYS for mode in ("hold", "churn")),
        place.floor_run(Way(client="epoll"), "hold", 60, memory=True),
        *(place.floor_run(Way(), mode, 60) for mode in ("half-open", "udp")),
        *({"what": "program", "connections": 60, "argv": peer_argv(style)} for style in ("streams", "protocol")),
    ]
    results = drive(tmp_path, *({**run, "label": "x"} for run in runs))
    for run, result in zip(runs, results, strict=True):
        assert "error" not in result, (run, result)
        assert result["connections"] == 60
        assert 0 < result["seconds"] < 30
        assert result["cpu_seconds"] > 0
        assert result["tcp"]["ListenOverflows"] == 0
    assert results[0]["grown_kib"]["Pss"] > 0


def peer_argv(style: str) -> list[str]:
    options = ["--connections", "60", "--processes", "2", "--listeners", "2", "--first-port", "7777"]
    return [sys.executable, "-m", "bench.asyncio_peers", "--style", style, *options]


def test_a_program_that_fails_says_why(tmp_path: Path) -> None:
    if shutil.which("cc") is None:
        pytest.skip("no C compiler")
    argv = [str(floor.build()), "--connections", "1", "--processes", "2"]
    (result,) = drive(tmp_path, {"what": "program", "label": "x", "argv": argv, "connections": 10})
    assert "out of range" in result["error"]


def test_priority_needs_root(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    with pytest.raises(SystemExit):
        engine.main(["--priority", "--only", "native"])
    assert "needs root" in capsys.readouterr().err
