"""Damaged runs: every command names the damage or does its work, and none ends with a traceback, hangs or writes
elsewhere. LAB_FUZZ_ROUNDS=500 makes it long.
"""

from __future__ import annotations

import json
import os
import random
import shutil
from pathlib import Path

import pytest

from lab.host.cli import main as cli
from tests.fuzz.mutations import mutate, regular_files
from tests.recordings import GOLDEN
from tests.unit.host.results.test_verify import write_run

ROUNDS = int(os.environ.get("LAB_FUZZ_ROUNDS", "8"))
SEED = int(os.environ.get("LAB_FUZZ_SEED", "0"))
# what a damaged run may end a command with: never 70, which is a fault of the lab itself
STATUSES = {
    "verify": {0, 1, 2, 3},
    "judge": {0, 1, 2, 3, 4},
    "report": {0, 2},
    "compare": {0, 1, 2, 3},
    "replay": {0, 2},
}
CELLS = ("pristine@debian12", "nat-present,iptables=nft@debian13", "modules-blocked,iptables=legacy@debian13")


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of a few recorded cells, with digests."""
    return write_run(tmp_path_factory.mktemp("whole"), CELLS[:2])


@pytest.fixture(autouse=True)
def own_cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("LAB_TRACEBACK", "1")


def commands(run: Path, whole: Path) -> list[list[str]]:
    return [
        ["verify", str(run)],
        ["report", str(run), "--format", "md"],
        ["compare", str(whole), str(run)],
        ["replay", str(run), "--dry-run", "--anyway"],
        ["judge", str(run)],
    ]


def differing(whole: Path, run: Path) -> list[str]:
    """The files of the whole run that another one has not, or not as they were."""
    names = [path.relative_to(whole) for path in regular_files(whole)]
    later = (".lock",)
    return [str(name) for name in names if not _same(whole / name, run / name) and name.name not in later]


def _same(one: Path, other: Path) -> bool:
    # through no link: what a link leads to is not of the run
    is_own = all(not part.is_symlink() for part in (other, *list(other.parents)[: len(one.parents)]))
    return is_own and other.is_file() and one.read_bytes() == other.read_bytes()


def is_named(name: str, out: str) -> bool:
    """Whether a file is told of, or a folder above it, or the list of digests that lies beside it or above it."""
    parts = name.split("/")
    above = ["/".join(parts[:count]) for count in range(1, len(parts))]
    lists = [f"{folder}/SHA256SUMS" for folder in above] + ["SHA256SUMS", "manifest.json, results.json"]
    return any(f" {one}:" in out for one in (name, *above, *lists))


@pytest.mark.parametrize("number", range(ROUNDS))
def test_no_command_falls_over_a_damaged_run(
    number: int, whole: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = tmp_path / "run"
    shutil.copytree(whole, run)
    done = mutate(random.Random(SEED * 10**6 + number), run)
    for argv in commands(run, whole):
        status = cli.main(argv)
        out, err = capsys.readouterr()
        assert status in STATUSES[argv[0]] and "Traceback" not in err, (argv[0], done, status, err)
        if status == 2:
            assert "hint: " in err, (argv[0], done, err)
            assert str(run) in err or "manifest.json" in err or "cell" in err, (argv[0], done, err)
        if argv[0] == "verify" and status != 2:
            unnamed = [name for name in differing(whole, run) if not is_named(name, out)]
            assert not unnamed, (done, unnamed, out)


@pytest.mark.parametrize("number", range(ROUNDS))
def test_no_command_falls_over_damaged_results_of_an_older_lab(
    number: int, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    chance = random.Random(SEED * 10**6 + number)
    stored = sorted(path.parent for path in (GOLDEN / "results" / "v1").rglob("results.json"))
    run = tmp_path / "run"
    shutil.copytree(stored[number % len(stored)], run)
    done = mutate(chance, run)
    for argv in commands(run, stored[number % len(stored)]):
        status = cli.main(argv)
        err = capsys.readouterr().err
        assert status in STATUSES[argv[0]] and "Traceback" not in err, (argv[0], done, status, err)


@pytest.mark.parametrize(
    ("name", "damage", "words"),
    [
        ("evidence/steps.json", {"reached": True, "steps": [{"number": [1], "exit_status": 0}]}, None),
        ("evidence/steps.json", {"reached": True, "steps": [{"number": {}}, 7, None]}, None),
        ("evidence/load.json", {"seconds": 10**400}, None),
        ("evidence/samples.jsonl", "[" * 5000, None),
        ("result.json", {"first_drop_seconds": 10**400}, "first_drop_seconds: is 1000"),
        ("result.json", {"tries": 7}, "tries: expected array, got int"),
        ("plan.json", {"steps": [{"kind": "run"}]}, "a result or plan is damaged"),
    ],
)
def test_what_one_guest_said_denies_nobody_the_report(
    name: str, damage: object, words: str | None, whole: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = tmp_path / "run"
    shutil.copytree(whole, run)
    path = run / "cells" / CELLS[1] / name
    if isinstance(damage, str):
        path.write_text(damage)
    else:
        path.write_text(json.dumps({**json.loads(path.read_text()), **dict(damage)}))  # type: ignore[call-overload]
    status = cli.main(["report", str(run), "--format", "md"])
    err = capsys.readouterr().err
    assert (status, "Traceback" in err) == (2 if words else 0, False), err
    assert words is None or (words in err and str(run) in err)
