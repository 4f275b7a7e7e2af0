"""Damaged runs: every command names the damage or does its work, and none ends with a traceback, hangs or writes
elsewhere.
"""

from __future__ import annotations

import contextlib
import io
import json
import shutil
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, precondition, rule, run_state_machine_as_test

from lab.host.cli import main as cli
from tests.fuzz.bounds import bounded
from tests.fuzz.damage import Damage, damages, do_all, regular_files
from tests.recordings import GOLDEN
from tests.unit.host.results.test_verify import write_run

# what a damaged run may end a command with: never 70, which is a fault of the lab itself
STATUSES = {
    "verify": {0, 1, 2, 3},
    "judge": {0, 1, 2, 3, 4},
    "report": {0, 2},
    "compare": {0, 1, 2, 3},
    "replay": {0, 2},
}
CELLS = ("pristine@debian12", "nat-present,iptables=nft@debian13")
STORED = sorted(path.parent for path in (GOLDEN / "results" / "v1").rglob("results.json"))
LATER = frozenset({".lock", "report.html", "report.md"})


@dataclass(frozen=True)
class Said:
    """How a command ended, and what it wrote."""

    status: int
    out: str
    err: str


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of a few recorded cells, with digests."""
    return write_run(tmp_path_factory.mktemp("whole"), CELLS)


@pytest.fixture(autouse=True)
def own_cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("LAB_TRACEBACK", "1")


@contextlib.contextmanager
def copied(whole: Path) -> Iterator[Path]:
    """A copy of a run, to be damaged."""
    with tempfile.TemporaryDirectory(prefix="lab-fuzz-") as folder:
        run = Path(folder) / "run"
        shutil.copytree(whole, run)
        yield run


def commands(run: Path, whole: Path) -> dict[str, list[str]]:
    """Every command that reads a stored run; the last one writes there."""
    return {
        "verify": ["verify", str(run)],
        "report": ["report", str(run), "--format", "md"],
        "compare": ["compare", str(whole), str(run)],
        "replay": ["replay", str(run), "--dry-run", "--anyway"],
        "judge": ["judge", str(run)],
    }


def said_by(argv: list[str], run: Path) -> Said:
    """Run a command of the lab, and check what holds for every one."""
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        status = cli.main(argv)
    said = Said(status, out.getvalue(), err.getvalue())
    assert status in STATUSES[argv[0]] and "Traceback" not in said.err, (argv[0], said)
    if status == 2:
        assert "hint: " in said.err, (argv[0], said)
        assert str(run) in said.err or "manifest.json" in said.err or "cell" in said.err, (argv[0], said)
    return said


def differing(whole: Path, run: Path) -> list[str]:
    """The files of the whole run that another one has not, or not as they were."""
    names = [path.relative_to(whole) for path in regular_files(whole)]
    return [str(name) for name in names if not same(whole / name, run / name) and name.name not in LATER]


def same(original: Path, other: Path) -> bool:
    """Through no link: what a link leads to is not of the run."""
    is_own = all(not part.is_symlink() for part in (other, *list(other.parents)[: len(original.parents)]))
    return is_own and other.is_file() and original.read_bytes() == other.read_bytes()


def is_named(name: str, out: str) -> bool:
    """Whether a file is named, or a folder above it, or the list of digests that lies beside it or above it."""
    parts = name.split("/")
    above = ["/".join(parts[:count]) for count in range(1, len(parts))]
    lists = [f"{folder}/SHA256SUMS" for folder in above] + ["SHA256SUMS", "manifest.json, results.json"]
    # of a list that was cut or changed, the files are named that it does not speak of, or speaks of otherwise
    is_other_list = name == "SHA256SUMS" and ("is not in the run's SHA256SUMS" in out or "was recorded" in out)
    return is_other_list or any(f" {place}:" in out for place in (name, *above, *lists))


def content(run: Path) -> dict[str, bytes]:
    """Every file of a run."""
    return {str(path.relative_to(run)): path.read_bytes() for path in regular_files(run) if path.name not in LATER}


@bounded(12)
@given(data=st.data())
def test_no_command_falls_over_a_damaged_run(whole: Path, data: st.DataObject) -> None:
    found = data.draw(st.lists(damages(whole), min_size=1, max_size=3))
    with copied(whole) as run:
        do_all(run, found)
        for name, argv in commands(run, whole).items():
            said = said_by(argv, run)
            if name == "verify" and said.status != 2:
                unnamed = [file for file in differing(whole, run) if not is_named(file, said.out)]
                assert not unnamed, (unnamed, said)


@pytest.mark.parametrize("stored", STORED, ids=lambda path: path.name)
@bounded(3)
@given(data=st.data())
def test_no_command_falls_over_damaged_results_of_an_older_lab(stored: Path, data: st.DataObject) -> None:
    found = data.draw(st.lists(damages(stored), min_size=1, max_size=3))
    with copied(stored) as run:
        do_all(run, found)
        for argv in commands(run, stored).values():
            said_by(argv, run)


def test_commands_in_any_order_write_only_what_they_are_for(whole: Path) -> None:
    class Stored(RuleBasedStateMachine):
        """A run that is read, judged and damaged."""

        def __init__(self) -> None:
            super().__init__()
            self.stack = contextlib.ExitStack()
            self.run = self.stack.enter_context(copied(whole))
            self.is_damaged = False
            self.judged: Said | None = None

        def teardown(self) -> None:
            self.stack.close()

        @rule(name=st.sampled_from(["verify", "report", "compare", "replay"]))
        def read(self, name: str) -> None:
            before = content(self.run)
            said = said_by(commands(self.run, whole)[name], self.run)
            assert content(self.run) == before, name
            if name == "verify" and not self.is_damaged:
                assert said.status == 0, said

        @rule()
        def judge(self) -> None:
            before = content(self.run)
            said = said_by(commands(self.run, whole)["judge"], self.run)
            if self.judged is not None:
                assert (said, content(self.run)) == (self.judged, before), "judging again says something else"
            self.judged = said

        @precondition(lambda self: not self.is_damaged)
        @rule(found=st.lists(damages(whole), min_size=1, max_size=2))
        def damage(self, found: list[Damage]) -> None:
            do_all(self.run, found)
            self.is_damaged, self.judged = True, None

    run_state_machine_as_test(Stored, settings=bounded(6))


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
