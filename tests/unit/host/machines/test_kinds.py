"""The table of machine kinds: every row is whole, and nothing else asks which kind a machine is of."""

from __future__ import annotations

import ast
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from lab.core.errors import ScenarioError
from lab.host.machines.kinds import KINDS, Kind, MachineKind, expand_targets, kind_of, machines_at_once, parse_target
from lab.host.options import RunOptions
from tests import ROOT

HOST = ROOT / "lab" / "host"


@pytest.mark.parametrize("kind", KINDS.values(), ids=list(KINDS))
def test_a_row_is_whole(kind: Kind) -> None:
    asked_for = {name for name in vars(MachineKind) if not name.startswith("_")}
    assert asked_for - set(dir(kind.load())) == set()
    assert kind_of(expand_targets([kind.example]), kind.name) == kind
    assert parse_target(kind.example).kind == kind.name
    assert all(option in vars(RunOptions()) for option in kind.takes)


@pytest.mark.parametrize(
    ("target", "options", "words"),
    [
        ("vagrant:x", RunOptions(kernel=("/k", "/m")), "--kernel /k,/m: machines of vagrant boot their own kernel"),
        ("host", RunOptions(kernel=("/k",)), "--kernel /k: machines of host boot their own kernel"),
        ("debian12", RunOptions(share_machine=True), "--share-machine: machines of qemu are not shared"),
        ("vagrant:x", RunOptions(share_machine=True, keep_failed=True), "--keep-failed cannot keep a machine that"),
    ],
)
def test_what_does_not_go_with_a_kind_is_refused(target: str, options: RunOptions, words: str) -> None:
    with pytest.raises(ScenarioError) as caught:
        kind_of([parse_target(target)]).check(options)
    assert str(caught.value).startswith(words) and caught.value.hint


def comparisons(tree: ast.AST) -> Iterator[int]:
    """The lines on which something is compared with the name of a kind."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Compare):
            sides = [node.left, *node.comparators]
            if any(isinstance(side, ast.Constant) and side.value in KINDS for side in sides):
                yield node.lineno


def test_only_the_table_tells_kinds_apart() -> None:
    files = [path for path in HOST.rglob("*.py") if path.parent.name not in KINDS]
    found = {(path.relative_to(HOST), line) for path in files for line in comparisons(ast.parse(path.read_text()))}
    assert {(path, line) for path, line in found if path != Path("machines/accelerator.py")} == set()


@pytest.mark.parametrize("source", ["spec.kind == 'vagrant'", "'qemu' != name", "a == b == 'host'"])
def test_a_branch_is_seen(source: str) -> None:
    assert list(comparisons(ast.parse(source))) == [1]


@pytest.mark.parametrize(
    ("processors", "free_mb", "vcpus", "machines"),
    [(1, 9000, 2, 1), (2, 9000, 2, 2), (2, 9000, 1, 3), (8, 9000, 2, 5), (8, 3100, 2, 2), (8, 100, 2, 1)],
)
def test_how_many_machines_a_host_carries(
    monkeypatch: pytest.MonkeyPatch, processors: int | None, free_mb: int, vcpus: int, machines: int
) -> None:
    monkeypatch.setattr(os, "cpu_count", lambda: processors)
    sizes = {"SC_AVPHYS_PAGES": free_mb * 256, "SC_PAGE_SIZE": 4096}
    monkeypatch.setattr(os, "sysconf", sizes.__getitem__)
    assert machines_at_once(vcpus, 1536) == machines
