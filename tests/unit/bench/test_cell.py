"""bench/cell: what it makes of runs, and of cells taken apart; nothing is run here."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from bench.common import BenchError
from bench.guests import TARGET, Apart, Run, Spent, plan_of
from bench.one_cell import BOOTED, PEER, RESTORED, Measured, report_starts, report_whole, requests_table
from bench.virtme import Virtme, did_run
from lab.host.results.recording import Recording


def run_with(seconds: float, **stages: float) -> Run:
    cell: Mapping[str, Any] = {"cell": "c", "stages_seconds": stages, "finding": "table-full", "tries": [{}]}
    return Run(seconds, (cell,), (seconds,))


def test_a_boot_is_no_part_of_a_cell() -> None:
    run = run_with(20.0, boot=10.0, restore=0.5, load=2.0)
    assert run.stages() == [{"restore": 0.5, "load": 2.0}]


def test_overhead_is_all_but_the_load_and_the_command_is_what_no_stage_has() -> None:
    measured = Measured()
    report_whole(measured, {"nft": [run_with(14.5, boot=10.0, restore=0.4, state=0.6, load=1.0, collect=1.0)]})
    assert {metric.name: metric.median for metric in measured.metrics} == {"overhead-nft": 2.0, "cell-nft": 3.0}
    assert [metric.verdict for metric in measured.metrics] == ["short", "ok"]
    rows = {row[0]: row[1] for row in measured.tables[0].rows}
    assert rows["the command around it"].startswith("1.50")
    assert rows["destroy"].startswith("0.00")


def test_a_request_made_twice_is_one_row_with_both_and_only_larger_items_are_shown() -> None:
    cell = Apart(
        Recording(),
        restore_seconds=0.3,
        restore_cpu_seconds=0.2,
        destroy_seconds=0.02,
        requests=[Spent("hello", 0.01, 0.0), Spent("observe", 0.5, 0.4), Spent("hello", 0.02, 0.0)],
        items=[Spent("observe: modules", 0.001, 0.0), Spent("observe: ruleset.nft", 0.4, 0.3)],
    )
    rows = requests_table("nft", [cell]).rows
    assert [row[0] for row in rows] == ["restore", "hello", "observe", "  ruleset.nft", "destroy"]
    assert rows[1][1].startswith("0.030")
    assert rows[3][2].startswith("0.30")


def test_virtme_boots_the_kernel_without_kvm_to_run_true() -> None:
    peer = Virtme(Path("/v/bin/vng"), "1.42", Path("/k/vmlinuz"), Path("/i/busybox"), 1536, 2)
    argv = peer.command("--verbose")
    assert argv[:4] == ["/v/bin/vng", "--run", "/k/vmlinuz", "--disable-kvm"]
    assert argv[-3:] == ["--verbose", "--", "true"]
    assert "1536M" in argv


@pytest.mark.parametrize(
    ("status", "console", "ran"),
    [
        (0, None, True),
        (0, "Linux version 6.1\n", True),  # with udev: nothing is printed
        (255, "script exited with code 0", True),  # without
        (255, None, True),
        (255, "Kernel panic", False),
        (1, "qemu: could not open", False),
    ],
)
def test_how_virtme_says_that_it_ran(status: int, console: str | None, ran: bool) -> None:
    assert did_run(status, console) is ran


def test_a_peer_that_cannot_be_measured_stops_nothing() -> None:
    measured = Measured()
    report_starts(measured, {RESTORED: [0.1, 0.15, 0.2], BOOTED: [16.0, 17.0, 18.0]}, "virtme-ng did not run")
    assert [(metric.name, metric.verdict) for metric in measured.metrics] == [
        ("restore", "ok"),
        ("restore-to-virtme", "unmeasured"),
        ("restore-to-boot", "-"),
    ]
    assert measured.metrics[1].note == measured.tables[0].note == "virtme-ng did not run"
    assert measured.tables[0].rows[-1] == (PEER, "?", "?")


def test_a_plan_is_of_one_cell() -> None:
    assert plan_of("nat-present", connections=5, chosen=["iptables=nft"]).cell == f"nat-present,iptables=nft@{TARGET}"
    with pytest.raises(BenchError, match="2 cells"):
        plan_of("nat-present", connections=5)
