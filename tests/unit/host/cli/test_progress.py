"""Progress: live rows on a terminal, plain lines elsewhere, and what is told of it at which loudness."""

from __future__ import annotations

import ast
import asyncio
import io
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from lab.core.plan import CellPlan, describe_outcome
from lab.host.cli import progress
from lab.host.cli.progress import Loudness, Reporter, describe, wants_rows
from lab.host.machines.playback import ReplayProvisioner, recorded_machine, recorded_plan
from lab.host.options import Deadlines
from lab.host.results.store import create_run
from lab.host.run.recording import Progress
from lab.host.run.runner import Job, Runner
from tests import ROOT
from tests.recordings import GOLDEN
from tests.records import changed, stored
from tests.unit.pseudo_terminal import PseudoTerminal

CELLS = GOLDEN / "cells"
PRISTINE, PRESENT = "pristine@debian12", "nat-present,iptables=nft@debian13"
LOADING = Progress("load", held=12, connections=300, entries="99", table_max="100", drops=3)
RESULT = stored(
    {
        "cell": "pristine@debian12",
        "finding": "untracked",
        "as_expected": True,
        "reason": "nothing is there",
        "tries": [{}],
    }
)
EVIL = "[red]x[/red] \x1b[2J\x1b[31m\x07\r\n[9/9] forged: ok :smile: \x9b1A[link=http://evil.example]y[/]"


Report = Callable[..., Reporter]


class Clock:
    """Time that a test moves."""

    def __init__(self) -> None:
        self.seconds = 1000.0

    def monotonic(self) -> float:
        return self.seconds


@pytest.fixture
def plan() -> CellPlan:
    return recorded_plan(CELLS / PRISTINE)


@pytest.fixture
def other() -> CellPlan:
    return recorded_plan(CELLS / "pristine@forky")


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(progress, "time", clock)
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setenv("TERM", "xterm-256color")
    return clock


@pytest.fixture
def terminal(clock: Clock) -> Iterator[PseudoTerminal]:
    with PseudoTerminal() as terminal:
        yield terminal


@pytest.fixture
def report(terminal: PseudoTerminal) -> Iterator[Report]:
    """Makes reporters that tell at the terminal; whatever a test does, none of them outlives it."""
    made: list[Reporter] = []

    def make(total: int, **options: Any) -> Reporter:
        made.append(Reporter(terminal.stream, total, **options))
        return made[-1]

    yield make
    for reporter in made:
        reporter.close()


@pytest.mark.parametrize(
    ("seen", "words"),
    [
        (Progress("restore"), "restore"),
        (Progress("load", connections=300), "load"),
        (LOADING, "load, 12 of 300 held, 99 of 100 entries, 3 drops"),
        (Progress("load", held=1, connections=2), "load, 1 of 2 held, no table, drops unknown"),
        (Progress("restore", mitigation=True), "mitigation, restore"),
        (replace(LOADING, mitigation=True), "mitigation, load, 12 of 300 held, 99 of 100 entries, 3 drops"),
        (Progress("load", held=1, connections=2, entries="0", table_max="9", drops=0), "0 of 9 entries, 0 drops"),
    ],
)
def test_a_stage_in_words(seen: Progress, words: str) -> None:
    assert describe(seen).endswith(words)


# -- plain lines ------------------------------------------------------------------------------------------------------


def test_plain_lines_for_what_is_no_terminal(plan: CellPlan, clock: Clock) -> None:
    stream = io.StringIO()
    reporter = Reporter(stream, total=2)
    reporter.progress(plan, Progress("restore"))
    for _ in range(30):  # three seconds of samples: one line at first, one after two seconds
        reporter.progress(plan, LOADING)
        clock.seconds += 0.1
    reporter.result(plan, RESULT)
    reporter.close()
    assert stream.getvalue().splitlines() == [
        "pristine@debian12: restore",
        "pristine@debian12: load, 12 of 300 held, 99 of 100 entries, 3 drops",
        "pristine@debian12: load, 12 of 300 held, 99 of 100 entries, 3 drops",
        "[1/2] pristine@debian12: untracked, ok: nothing is there (3.0 s)",
    ]


@pytest.mark.parametrize(("name", "value"), [("NO_COLOR", "1"), ("TERM", "dumb"), ("TERM", "")])
def test_no_escape_sequence_where_it_is_not_wanted(
    plan: CellPlan, terminal: PseudoTerminal, report: Report, monkeypatch: pytest.MonkeyPatch, name: str, value: str
) -> None:
    monkeypatch.setenv(name, value)
    tell(report(1), plan)
    assert_plain(terminal)


def tell(reporter: Reporter, plan: CellPlan) -> None:
    reporter.progress(plan, LOADING)
    reporter.refresh()
    reporter.result(plan, RESULT)
    reporter.close()


def assert_plain(terminal: PseudoTerminal) -> None:
    assert terminal.screen() == [
        "pristine@debian12: load, 12 of 300 held, 99 of 100 entries, 3 drops",
        "[1/1] pristine@debian12: untracked, ok: nothing is there (0.0 s)",
    ]
    assert b"\x1b" not in terminal.raw


def test_without_rich_a_terminal_has_plain_lines(
    plan: CellPlan, terminal: PseudoTerminal, report: Report, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in [name for name in sys.modules if name.partition(".")[0] == "rich"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "rich", None)
    monkeypatch.delitem(sys.modules, "lab.host.cli.live", raising=False)
    reporter = report(1)
    assert reporter._rows is None
    tell(reporter, plan)
    assert_plain(terminal)


def test_rich_is_imported_by_the_rows_alone() -> None:
    importing = set()
    for path in (ROOT / "lab").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            importing |= {path.name for name in names if name.partition(".")[0] == "rich"}
    assert importing == {"live.py"}


def test_which_streams_have_rows(terminal: PseudoTerminal) -> None:
    assert wants_rows(terminal.stream, {"TERM": "xterm"})
    assert wants_rows(terminal.stream, {"TERM": "linux", "NO_COLOR": ""})
    assert not wants_rows(terminal.stream, {"TERM": "xterm", "NO_COLOR": "1"})
    assert not wants_rows(terminal.stream, {"TERM": "unknown"})
    assert not wants_rows(io.StringIO(), {"TERM": "xterm"})


# -- loudness ---------------------------------------------------------------------------------------------------------


def told(loudness: Loudness, plan: CellPlan, clock: Clock) -> list[str]:
    stream = io.StringIO()
    reporter = Reporter(stream, total=1, loudness=loudness)
    reporter.say("a word")
    reporter.detail("a line of a program")
    reporter.progress(plan, Progress("restore"))
    clock.seconds += 0.5
    reporter.progress(plan, Progress("state"))
    clock.seconds += 0.25
    reporter.progress(plan, Progress("state", step="state[0]: run true: exit status 0"))
    reporter.progress(plan, Progress("load", connections=300))
    reporter.result(plan, RESULT)
    reporter.close()
    return stream.getvalue().splitlines()


def test_quiet_is_quiet(plan: CellPlan, clock: Clock) -> None:
    assert told(Loudness.QUIET, plan, clock) == []


def test_the_usual(plan: CellPlan, clock: Clock) -> None:
    assert told(Loudness.NORMAL, plan, clock) == [
        "a word",
        "pristine@debian12: restore",
        "pristine@debian12: state",
        "pristine@debian12: load",
        "[1/1] pristine@debian12: untracked, ok: nothing is there (0.8 s)",
    ]


def test_verbose_tells_stages_with_their_times_and_steps(plan: CellPlan, clock: Clock) -> None:
    assert told(Loudness.VERBOSE, plan, clock) == [
        "a word",
        "a line of a program",
        "pristine@debian12: restore (0.0 s)",
        "pristine@debian12: state (0.5 s)",
        "pristine@debian12: state[0]: run true: exit status 0",
        "pristine@debian12: load: hold 300 connections, max 100 (0.8 s)",
        "[1/1] pristine@debian12: untracked, ok: nothing is there (0.8 s)",
    ]


def test_quiet_is_quiet_at_a_terminal_too(plan: CellPlan, terminal: PseudoTerminal, report: Report) -> None:
    tell(report(1, loudness=Loudness.QUIET), plan)
    assert (terminal.screen(), terminal.raw) == ([], b"")


def test_verbose_lines_stand_above_the_rows(plan: CellPlan, terminal: PseudoTerminal, report: Report) -> None:
    reporter = report(1, loudness=Loudness.VERBOSE)
    reporter.progress(plan, Progress("state"))
    reporter.progress(plan, Progress("state", step="state[0]: run true: exit status 0, 0.1 s"))
    reporter.progress(plan, LOADING)
    reporter.refresh()
    lines = terminal.screen()
    assert lines[:3] == [
        "pristine@debian12: state (0.0 s)",
        "pristine@debian12: state[0]: run true: exit status 0, 0.1 s",
        "pristine@debian12: load: hold 300 connections, max 100 (0.0 s)",
    ]
    assert lines[-2].split()[:2] == ["pristine@debian12", "load"]
    reporter.close()


def test_what_became_of_a_step_in_a_line() -> None:
    plan = recorded_plan(CELLS / "modules-blocked,iptables=legacy@debian13")
    complaint = "can't:\n  no table\x1b[2J"
    refused = {"number": 1, "exit_status": 3, "seconds": 1.4743, "as_wanted": False, "stderr": complaint}
    line = describe_outcome(plan, refused)
    assert line.startswith("state[1]: run iptables-legacy --table nat --append POSTROUTING ")
    assert line.endswith(": exit status 3, 1.5 s, not as wanted: can't: no table\\x1b[2J")
    well = describe_outcome(plan, {"number": 0, "exit_status": 0, "seconds": 0.1314, "as_wanted": True, "stderr": ""})
    assert well == "state[0]: write /etc/modprobe.d/lab.conf: exit status 0, 0.1 s"


@pytest.mark.parametrize("number", [None, -1, 99, "0", 1.0, [0]])
def test_a_step_that_no_plan_has(plan: CellPlan, number: object) -> None:
    line = describe_outcome(plan, {"number": number, "exit_status": EVIL, "stderr": [EVIL] * 1000, "seconds": "x"})
    assert line.startswith("a step that was not planned: exit status ")
    assert line.isprintable()
    assert len(line) < 500


# -- live rows --------------------------------------------------------------------------------------------------------


def test_rows_are_drawn_in_place(
    plan: CellPlan, other: CellPlan, clock: Clock, terminal: PseudoTerminal, report: Report
) -> None:
    reporter = report(3, expected={plan.cell: 20.0, other.cell: 30.0})
    for held in range(5):
        reporter.progress(plan, replace(LOADING, held=held * 50))
        clock.seconds += 1
        reporter.progress(other, Progress("state"))
        clock.seconds += 1
        reporter.refresh()
    header, first, second, whole = terminal.screen()
    assert header.split() == ["cell", "stage", "held", "entries", "drops", "elapsed", "left"]
    assert first.split() == ["pristine@debian12", "load", "━━━━━╺━━", "200/300", "99/100", "3", "0:10", "~0:10"]
    assert second.split() == ["pristine@forky", "state", "0:09", "~0:21"]
    assert whole == "0 of 3 cells ended, 0:10 elapsed, about 0:28 left"
    assert terminal.cursor_is_hidden
    reporter.say("a word")
    reporter.result(plan, RESULT)
    reporter.refresh()
    lines = terminal.screen()
    assert lines[:2] == ["a word", "[1/3] pristine@debian12: untracked, ok: nothing is there (10.0 s)"]
    assert lines[2].split()[0] == "cell"
    assert lines[3].split()[0] == "pristine@forky"
    assert lines[4:] == ["1 of 3 cells ended, 0:10 elapsed, about 0:31 left"]
    reporter.close()
    assert len(terminal.screen()) == 2
    assert not terminal.cursor_is_hidden


def test_what_was_known_of_the_load_stays_until_the_end(
    plan: CellPlan, terminal: PseudoTerminal, report: Report
) -> None:
    reporter = report(1)
    for seen in (LOADING, Progress("collect")):
        reporter.progress(plan, seen)
    reporter.refresh()
    row = terminal.screen()[1].split()
    assert (row[1], row[-4:]) == ("collect", ["99/100", "3", "0:00", "?"])
    reporter.progress(plan, Progress("restore", mitigation=True))
    reporter.refresh()
    assert terminal.screen()[1].split() == ["pristine@debian12", "mitigation,", "0:00", "?"]
    reporter.close()


def test_what_is_unknown_is_no_zero(plan: CellPlan, terminal: PseudoTerminal, report: Report) -> None:
    reporter = report(1)
    reporter.progress(plan, Progress("load", held=0, connections=300))
    reporter.refresh()
    _, row, whole = terminal.screen()
    assert row.split()[-4:] == ["none", "?", "0:00", "?"]
    assert whole == "0 of 1 cells ended, 0:00 elapsed, time left unknown"
    reporter.close()


@pytest.mark.parametrize("columns", [1, 2, 10, 40, 60, 80, 119, 120, 250])
def test_no_row_is_wider_than_the_terminal(
    plan: CellPlan, other: CellPlan, terminal: PseudoTerminal, report: Report, columns: int
) -> None:
    reporter = report(2)
    terminal.resize(columns, 24)
    for _ in range(3):
        reporter.progress(plan, replace(LOADING, held=10**9, drops=10**9))
        reporter.progress(other, Progress("waiting for another boot of a machine like this"))
        reporter.refresh()
    assert len(terminal.screen()) <= 4  # a line that wrapped would leave its rest behind
    reporter.close()
    assert terminal.screen() == []


def test_rows_follow_a_terminal_that_becomes_narrower(plan: CellPlan, terminal: PseudoTerminal, report: Report) -> None:
    reporter = report(1)
    reporter.progress(plan, LOADING)
    assert len(terminal.screen()) == 3
    terminal.resize(60, 24)
    reporter.refresh()
    header, row, _ = terminal.screen()
    assert header.split() == ["cell", "stage", "held", "entries", "drops"]
    assert row.split()[0] == "pristine@debian12"
    reporter.close()


def test_a_terminal_too_low_for_all_rows(terminal: PseudoTerminal, report: Report) -> None:
    terminal.resize(100, 5)
    reporter = report(20)
    plan = recorded_plan(CELLS / PRISTINE)
    for number in range(20):
        reporter.progress(replace(plan, cell=f"cell-{number}@debian12"), Progress("state"))
        reporter.refresh()
    assert len(terminal.screen()) <= 5
    reporter.close()
    assert terminal.screen() == []


def test_nobodys_words_mean_anything(plan: CellPlan, terminal: PseudoTerminal, report: Report) -> None:
    reporter = report(1, loudness=Loudness.VERBOSE)
    evil = replace(plan, cell=f"pristine@{EVIL}")
    reporter.progress(evil, Progress(EVIL))
    reporter.progress(evil, Progress("state", step=EVIL))
    reporter.progress(evil, Progress("load", held=1, connections=2, entries=EVIL, table_max=EVIL, drops=1))
    reporter.refresh()
    reporter.say(EVIL)
    reporter.detail(EVIL)
    lines = terminal.screen()
    assert any("[red]x[/red]" in line and ":smile:" in line for line in lines)
    reporter.result(evil, changed(RESULT, cell=evil.cell, reason=EVIL, finding=EVIL))
    assert terminal.screen()[0].startswith("pristine@[red]x[/red]"), "nothing cleared the screen"
    assert not any(line.startswith("[9/9]") for line in terminal.screen())
    for sequence in (b"\x1b[2J\x1b[31m", b"\x07", b"\x1b]8", b"\x9b"):
        assert sequence not in terminal.raw
    reporter.close()


def test_a_played_back_run_at_a_terminal(tmp_path: Path, terminal: PseudoTerminal, report: Report) -> None:
    seen: list[list[str]] = []
    ended = play_back(tmp_path, terminal, report(2), seen)
    assert ended == 2
    stages = [row.split()[1] for lines in seen for row in lines if row.startswith("nat-present") and "[" not in row]
    assert list(dict.fromkeys(stages)) == ["restore", "state", "load", "collect", "destroy"]
    full = [row for lines in seen for row in lines if "100/100" in row and row.startswith("nat-present")]
    assert full and "/300" in full[-1]
    assert max(len(lines) for lines in seen) <= 5
    lines = terminal.screen()
    assert [line.partition(":")[0] for line in lines if line.startswith("[")] == [
        f"[1/2] {PRISTINE}",
        f"[2/2] {PRESENT}",
    ]
    assert not any("elapsed" in line for line in lines), "the rows are gone"
    assert not terminal.cursor_is_hidden


def test_a_played_back_run_in_full(tmp_path: Path, clock: Clock) -> None:
    stream = io.StringIO()
    reporter = Reporter(stream, total=1, loudness=Loudness.VERBOSE)
    asyncio.run(run_cells(tmp_path, [PRESENT], reporter.progress, reporter))
    rule = "run iptables-nft --table nat --append POSTROUTING --out-interface eth0 --jump MASQUERADE"
    assert [line.removeprefix(f"{PRESENT}: ") for line in stream.getvalue().splitlines()[:-1]] == [
        "restore (0.0 s)",
        "state (0.0 s)",
        f"state[0]: {rule}: exit status 0, 3.8 s",
        "load: hold 300 connections, max 100 (0.0 s)",
        "collect (0.0 s)",
        "destroy (0.0 s)",
    ]


def play_back(tmp_path: Path, terminal: PseudoTerminal, reporter: Reporter, seen: list[list[str]]) -> int:
    def note(plan: CellPlan, told: Progress) -> None:
        reporter.progress(plan, told)
        reporter.refresh()
        seen.append(terminal.screen())

    return asyncio.run(run_cells(tmp_path, [PRISTINE, PRESENT], note, reporter))


async def run_cells(
    tmp_path: Path, cells: list[str], note: Callable[[CellPlan, Progress], None], reporter: Reporter
) -> int:
    """Play recorded cells back, as lab run runs cells; how many ended."""
    jobs = [
        Job(recorded_plan(CELLS / cell), recorded_machine(CELLS / cell), (CELLS / cell / "scenario.toml").read_text())
        for cell in cells
    ]
    with create_run(tmp_path) as folder:
        runner = Runner(ReplayProvisioner(), folder, Deadlines(), note, reporter.result)
        try:
            await runner.run_all(jobs, 1)
        finally:
            reporter.close()
    return len(runner.results)


def test_a_run_that_is_interrupted_gives_the_cursor_back(
    plan: CellPlan, terminal: PseudoTerminal, report: Report
) -> None:
    reporter = report(1)
    try:
        reporter.progress(plan, LOADING)
        assert terminal.cursor_is_hidden
        raise KeyboardInterrupt
    except KeyboardInterrupt:
        pass
    finally:
        reporter.close()
        reporter.close()
    assert terminal.screen() == []
    assert not terminal.cursor_is_hidden


@pytest.mark.parametrize(
    ("cells", "room", "shown"),
    [
        (["nat-present,iptables=nft@debian12"], 33, ["nat-present,iptables=nft@debian12"]),
        (["nat-present,iptables=nft@debian12"], 32, ["nat-present,nft@debian12"]),
        (["nat-present,iptables=nft@debian12-r2", "pristine@debian12-r10"], 20, ["nat-present,nft-r2", "pristine-r10"]),
        (["a,iptables=nft@debian12", "b@debian13"], 5, ["a,nft@debian12", "b@debian13"]),
        (["a,iptables=nft,match=state@debian12+kernel=x"], 11, ["a,nft,state"]),
    ],
)
def test_what_tells_cells_apart_is_shown_longest(cells: list[str], room: int, shown: list[str]) -> None:
    pytest.importorskip("rich")
    from lab.host.cli.live import names_within

    assert list(names_within(cells, room)) == shown
