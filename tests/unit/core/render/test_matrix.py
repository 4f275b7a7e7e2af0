"""The matrix page, of a made-up run."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from lab.core.render.matrix import matrix_page
from lab.core.result import CellResult
from lab.host.publish.documents import documents
from lab.host.results.store import results_json
from tests.records import changed, stored, stored_manifest

MANIFEST: dict[str, Any] = {
    "tool_version": "0.1.0",
    "started_at": "2026-11-21T23:00:00+00:00",
    "ended_at": "2026-11-22T00:05:00+00:00",
    "host": {"processors": 2},
    "provisioner": {"qemu_version": "QEMU emulator version 10.0.2", "accelerator": "tcg"},
    "overrides": {"connections": None, "max": None, "set": []},
    "targets": {
        "debian11": {
            "kernel_release": "5.10.0-32-amd64",
            "packages": {"linux-image-5.10.0-32-amd64": "5.10.223-1", "iptables": "1.8.7-1"},
        },
        "debian12": {
            "kernel_release": "6.1.0-50-amd64",
            "packages": {"linux-image-6.1.0-50-amd64": "6.1.176-1", "iptables": "1.8.9-2", "libnftnl11": "1.2.4-2"},
        },
    },
}


def cell(scenario: str, target: str, finding: str, **changes: Any) -> CellResult:
    document = {
        "scenario": scenario,
        "axes": {"iptables": "nft"} if scenario == "nat-present" else {},
        "target": target,
        "kernel_release": MANIFEST["targets"][target]["kernel_release"],
        "finding": finding,
        "expected": finding,
        "as_expected": True,
        "message_logged": False,
        **changes,
    }
    return stored(document)


CELLS = [
    cell("pristine", "debian11", "untracked"),
    cell("nat-present", "debian11", "table-full", message_logged=True),
    cell("pristine", "debian12", "tracked", expected="untracked", as_expected=False),
    cell("nat-present", "debian12", "skipped", expected=None, as_expected=None, message_logged=None),
]


def page(cells: list[CellResult], **changes: Any) -> str:
    return matrix_page(stored_manifest({**MANIFEST, **changes}), cells, 3900, "scripts/write-docs")


def rows(text: str, part: int = 0) -> list[list[str]]:
    """The rows of one of the page's tables."""
    tables = [block for block in text.split("\n\n") if block.startswith("|")]
    return [[field.strip() for field in line.strip("|").split(" | ")] for line in tables[part].splitlines()]


def test_states_stand_down_and_kernels_across() -> None:
    header, _, *states = rows(page(CELLS))
    assert header == ["state", "debian11<br>5.10.0-32-amd64", "debian12<br>6.1.0-50-amd64"]
    assert states == [
        ["[pristine](scenarios/pristine.md)", "untracked", "**tracked**, not untracked"],
        ["[nat-present](scenarios/nat-present.md), iptables-nft", "table-full, L", "skipped"],
    ]


def test_a_cell_that_was_not_run_is_empty() -> None:
    _, _, *states = rows(page(CELLS[:3]))
    assert states[1] == ["[nat-present](scenarios/nat-present.md), iptables-nft", "table-full, L", ""]


def test_a_lost_cell_has_what_was_expected() -> None:
    lost = cell("pristine", "debian12", "inconclusive", expected="untracked", as_expected=False, kernel_release=None)
    header, _, *states = rows(page([CELLS[0], lost]))
    assert header[2] == "debian12<br>6.1.0-50-amd64"
    assert states == [["[pristine](scenarios/pristine.md)", "untracked", "**inconclusive**, not untracked"]]


def test_what_every_kernel_shows_stands_in_one_column() -> None:
    same = [
        cell(name, target, finding, axes={"iptables": backend})
        for name, finding in (("nat-present", "table-full"), ("nat-flushed", "untracked"))
        for backend in ("legacy", "nft")
        for target in ("debian11", "debian12")
    ]
    same[-2:] = [changed(one, finding="tracked", expected="tracked") for one in same[-2:]]
    text = page([*CELLS, *same])
    assert [state[0] for state in rows(text)[2:]] == [
        "[pristine](scenarios/pristine.md)",
        "[nat-present](scenarios/nat-present.md), iptables-nft",
    ]
    header, _, *states = rows(text, 1)
    assert header == ["state", "variants", "finding on every kernel"]
    assert states == [
        ["[nat-present](scenarios/nat-present.md)", "iptables-legacy", "table-full"],
        ["[nat-flushed](scenarios/nat-flushed.md)", "iptables-legacy", "untracked"],
        ["[nat-flushed](scenarios/nat-flushed.md)", "iptables-nft", "tracked"],
    ]
    assert rows(page(same))[2] == ["[nat-present](scenarios/nat-present.md)", "all 2", "table-full"]


def test_repeats_are_counted() -> None:
    other = changed(CELLS[1], message_logged=False)
    _, _, *states = rows(page([CELLS[0], CELLS[0], CELLS[1], CELLS[1], other]))
    assert [state[1] for state in states] == ["untracked (2x)", "table-full, L (2x); table-full (1x)"]


def test_the_head_tells_the_run() -> None:
    text = page(CELLS)
    assert "4 cells: 2 as expected, 1 not as expected, 1 skipped.\n" in text
    assert "Run on 2026-11-21 (UTC) in 1 h 5 min: conntrack-lab 0.1.0, QEMU emulator version 10.0.2, emulated" in text
    assert "(findings.md)" in text
    assert "With `" not in text
    assert "--connections 50 --set a=b" in page(CELLS, overrides={"connections": 50, "max": None, "set": ["a=b"]})


def test_bold_is_explained_where_it_stands() -> None:
    assert "**Bold**" in page(CELLS)
    assert "**" not in page(CELLS[:2])


def test_the_versions_stand_below() -> None:
    header, _, *packages = rows(page(CELLS), 1)
    assert header == ["package", "debian11", "debian12"]
    assert packages == [
        ["kernel", "5.10.223-1", "6.1.176-1"],
        ["iptables", "1.8.7-1", "1.8.9-2"],
        ["libnftnl11", "-", "1.2.4-2"],
    ]
    assert "Not recorded." in page(CELLS, targets={"debian11": {"kernel_release": "5.10"}, "debian12": {}})


def test_without_reference_results_there_is_no_matrix(tmp_path: Path) -> None:
    assert Path("docs/matrix.md") not in documents(tmp_path)
    assert "matrix" not in documents(tmp_path)[Path("docs/scenarios/README.md")]
    folder = tmp_path / "results" / "reference"
    folder.mkdir(parents=True)
    (folder / "manifest.json").write_text(json.dumps(MANIFEST))
    (folder / "results.json").write_text(json.dumps(results_json(CELLS)))
    assert "in 1 h 5 min" in documents(tmp_path)[Path("docs/matrix.md")]
    assert "(../matrix.md)" in documents(tmp_path)[Path("docs/scenarios/README.md")]
