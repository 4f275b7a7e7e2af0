"""The command line: bad input gets a message with its hint and exit status 2, and nothing is started."""

from __future__ import annotations

import errno
import io
import json
import os
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from lab.core.errors import GuestLost, LabError, ScenarioError
from lab.host import images
from lab.host.cli import ending
from lab.host.cli import main as cli
from lab.host.cli.main import command_line
from lab.host.distributions import table
from lab.host.images import Image
from lab.host.machines.machine import Ready
from lab.host.machines.qemu import kind as qemu_kind
from lab.host.machines.qemu.binary import QemuBinary
from lab.host.machines.qemu.command import TCG
from lab.host.machines.qemu.provisioner import QemuProvisioner
from lab.host.options import Deadlines, read_options
from lab.host.releases import TARGETS, Target
from lab.host.results import judging
from lab.host.run.manifest import manifest_of
from lab.host.run.planned import plan_run
from tests.recordings import GOLDEN
from tests.records import document
from tests.unit.host.publish.test_schemas import errors
from tests.unit.pseudo_terminal import PseudoTerminal

PRISTINE, PRESENT = "pristine@debian12", "nat-present,iptables=nft@debian13"
QEMU = QemuBinary("/usr/bin/qemu-system-x86_64", "QEMU emulator version 10.0.2", (10, 0, 2), "cpu")

Lab = Callable[..., tuple[int, str, str]]
Say = Callable[[str], None]


@pytest.fixture
def lab(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, project_root: Path, capsys: pytest.CaptureFixture[str]) -> Lab:
    """Runs a command; its exit status, standard output and standard error. No program can be found, nothing started."""
    empty = tmp_path / "empty"
    empty.mkdir()
    monkeypatch.setenv("PATH", str(empty))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.chdir(project_root)

    def run(*argv: str) -> tuple[int, str, str]:
        try:
            status = cli.main(argv)
        except SystemExit as wrong_usage:
            status = wrong_usage.code if isinstance(wrong_usage.code, int) else 1
        out, err = capsys.readouterr()
        return status, out, err

    return run


@pytest.fixture
def with_qemu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(qemu_kind, "find_qemu", lambda: QEMU)


def write_scenario(folder: Path, text: str, name: str = "mine") -> str:
    path = folder / f"{name}.toml"
    path.write_text(text)
    return str(path)


HEAD = 'version = 1\nname = "mine"\nsummary = "For a test."\n'

# -- wrong input ------------------------------------------------------------------------------------------------------

# arguments -> words of the message, words of the hint
WRONG: dict[str, tuple[tuple[str, ...], str, str]] = {
    "scenario": (("run", "nat-presnt"), "nat-presnt: no such scenario", "nat-present"),
    "glob": (("run", "zzz-*"), "zzz-*: no scenario matches", ""),
    "path": (("run", "./nowhere.toml"), "nowhere.toml: cannot be read", "lab list scenarios"),
    "target": (("run", "pristine", "--target", "debain12"), "unknown target 'debain12'", "debian12"),
    "target glob": (("run", "pristine", "--target", "suse*"), "unknown target 'suse*'", "known: debian11"),
    "kernel in a target": (("run", "pristine", "--target", "debian12+kernel:"), "no path after", "+kernel:PATH"),
    "axis": (("run", "nat-present", "--set", "iptable=nft"), "--set iptable: no scenario", "iptables"),
    "value": (("run", "nat-present", "--set", "iptables=ntf"), "--set iptables=ntf: no scenario", "nft"),
    "no axis=value": (("run", "nat-present", "--set", "iptables"), "is not of the form axis=value", "iptables=nft"),
    "repeat 0": (("run", "pristine", "--repeat", "0"), "--repeat: is 0, must be 1 to 10000", "--repeat 1"),
    "repeat of a billion": (("run", "pristine", "--repeat", "1000000000"), "must be 1 to 10000", "--repeat 1"),
    "too many cells": (("run", "*", "--repeat", "10000"), " cells, a run has at most 100000", "fewer"),
    "report of nothing": (("report", "/nonexistent"), "/nonexistent: there is no such run", "results/latest"),
    "repeat -1": (("run", "pristine", "--repeat", "-1"), "--repeat: is -1", "--repeat 1"),
    "connections 0": (("run", "pristine", "--connections", "0"), "--connections: is 0, must be 1", "--connections"),
    "connections -5": (("run", "pristine", "--connections", "-5"), "--connections: is -5", ""),
    "too many": (
        ("run", "pristine", "--connections", "10000000"),
        "--connections: is 10000000, at most 116326 can be reached in a machine of 1536 MB",
        "ask for at most 116326, or set machine.memory_mb = ",
    ),
    "max 0": (("run", "pristine", "--max", "0"), "--max: is 0", "--max 1000"),
    "timeouts without a value": (("run", "pristine", "--timeouts", "boot"), "--timeouts boot:", "stages: build, boot"),
    "timeouts of no stage": (("run", "pristine", "--timeouts", "boot=9,bot=60"), "--timeouts bot=60:", "boot"),
    "timeouts of no number": (("run", "pristine", "--timeouts", "load=soon"), "--timeouts load=soon:", "load"),
    "timeouts of 0": (("run", "pristine", "--timeouts", "load=0"), "--timeouts load=0:", ""),
    "timeouts below 0": (("run", "pristine", "--timeouts", "load=-1"), "--timeouts load=-1:", ""),
    "timeouts of NaN": (("run", "pristine", "--timeouts", "load=nan"), "--timeouts load=nan:", ""),
    "timeouts without an end": (("run", "pristine", "--timeouts", "load=inf"), "--timeouts load=inf:", ""),
    "image of no target": (("image", "build", "debian99"), "unknown target 'debian99'", "did you mean debian"),
    "shell of several machines": (("shell", "nat-present"), "a shell needs one machine", "--set"),
    "judge of nothing": (("judge", "/nonexistent"), "/nonexistent: there is no such run", "results/latest"),
}


@pytest.mark.parametrize("name", WRONG)
def test_wrong_input_gets_a_message_with_its_mend(lab: Lab, tmp_path: Path, name: str) -> None:
    argv, words, hint = WRONG[name]
    status, out, err = lab(*argv)
    assert (status, out) == (2, "")
    first, *more = err.splitlines()
    assert first.startswith("lab: ")
    assert words in err
    assert hint in "\n".join(line for line in more if line.startswith("  hint: "))
    assert not (tmp_path / "cache").exists(), "nothing was started"


# what argparse refuses: its own words, and the same exit status
@pytest.mark.parametrize(
    ("argv", "words"),
    [
        (("image",), "required: ACTION"),
        (("fly",), "invalid choice: 'fly'"),
        (("run",), "names no scenario"),
        (("run", "pristine", "--provisioner", "cloud"), "--provisioner: invalid choice: 'cloud'"),
        (("run", "pristine", "--accelerator", "hvf"), "--accelerator: invalid choice: 'hvf'"),
        (("run", "pristine", "--format", "xml"), "--format: invalid choice: 'xml'"),
        (("run", "pristine", "--repeat", "often"), "--repeat: invalid int value: 'often'"),
        (("run", "pristine", "--connections", "1e3"), "--connections: invalid int value: '1e3'"),
        (("run", "pristine", "-j", "0"), "-j: is '0', must be a number of at least 1"),
        (("run", "pristine", "--nosuch"), "unrecognized arguments: --nosuch"),
        (("list", "kernels"), "invalid choice: 'kernels'"),
        (("judge",), "required: DIR"),
    ],
)
def test_wrong_usage(lab: Lab, argv: tuple[str, ...], words: str) -> None:
    status, out, err = lab(*argv)
    assert (status, out) == (2, "")
    assert words in err


def test_every_command_shows_an_example(lab: Lab) -> None:
    commands = "list, run, shell, judge, compare, completion, image build, image list, image remove, doctor"
    for command in commands.split(", "):
        status, out, _ = lab(*command.split(), "--help")
        assert status == 0
        assert f"example: lab {command.split()[0]}" in out, command


# text of a scenario file -> words of the message
BROKEN = {
    "not TOML": ("version = = 1\n", "mine.toml"),
    "an unknown key": (HEAD + "[conntrak]\nmax = 100\n", "conntrak: is an unknown key"),
    "no version": ('name = "mine"\nsummary = "x"\n', "version: is missing"),
    "a newer version": (HEAD.replace("1", "99", 1), "version"),
    "a wrong type": (HEAD + '[load]\nconnections = "many"\n', 'load.connections: is the text "many"'),
    "zero connections": (HEAD + "[load]\nconnections = 0\n", "load.connections: is the number 0"),
    "a load that does not exist": (HEAD + '[load]\nkind = "icmp"\n', 'load.kind: is the text "icmp"'),
}


@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_scenario_is_named_with_its_key(lab: Lab, tmp_path: Path, name: str) -> None:
    text, words = BROKEN[name]
    status, out, err = lab("run", write_scenario(tmp_path, text))
    assert (status, out) == (2, "")
    assert "mine.toml" in err
    assert words in err


def test_without_qemu_nothing_runs(lab: Lab, tmp_path: Path) -> None:
    for argv in (("run", "pristine"), ("run", "pristine", "--dry-run"), ("shell", "pristine")):
        status, out, err = lab(*argv, *(["--output", str(tmp_path / "results")] if argv[0] == "run" else []))
        assert (status, out) == (2, "")
        assert err == (
            "lab: qemu-system-x86_64 is not installed\n  hint: run scripts/setup, or install QEMU for x86_64\n"
        )
    assert not (tmp_path / "results").exists()


def test_the_doctor_says_so_too(lab: Lab) -> None:
    status, out, _ = lab("doctor")
    assert status == 2
    assert "LACK  QEMU: qemu-system-x86_64 is not installed\n      hint: run scripts/setup" in out


# -- listing and planning ---------------------------------------------------------------------------------------------


def test_lists(lab: Lab) -> None:
    status, out, _ = lab("list")
    assert status == 0
    scenarios, targets = out.split("\n\n")
    rows = {line.split()[0]: line for line in scenarios.splitlines()}
    assert rows["scenario"].split() == ["scenario", "variants", "kind", "expects", "summary"]
    assert rows["nat-flushed"].split()[1:6] == ["2", "hold", "table-full", "untracked", "A"]
    rows = {line.split()[0]: line for line in targets.splitlines()}
    assert {*TARGETS, *table.rows(), "target", "host", "image:PATH", "vagrant:BOX"} == set(rows)
    assert "lab image pin" in rows["ubuntu24.04"]
    assert all(rows[name].split()[1:3] == ["?", "no"] for name in TARGETS)
    assert lab("list", "targets")[1].strip() == targets.strip()
    assert lab("list", "scenarios")[1].strip() == scenarios


def test_lists_as_json(lab: Lab) -> None:
    told = json.loads(lab("list", "--format", "json")[1])
    assert {row["name"] for row in told["targets"]} >= set(TARGETS)
    (row,) = [row for row in told["scenarios"] if row["name"] == "nat-flushed"]
    assert (row["kind"], row["expects"], len(row["variants"])) == ("hold", ["table-full", "untracked"], 2)
    assert set(json.loads(lab("list", "targets", "--format", "json")[1])) == {"schema_version", "targets"}


def test_lists_fit_a_terminal(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    with PseudoTerminal(columns=70) as terminal:
        monkeypatch.setattr(sys, "stdout", terminal.stream)
        assert cli.main(["list"]) == 0
        lines = terminal.screen()
    assert ["scenario", "variants", "kind", "expects"] in [line.split() for line in lines]
    assert max(map(len, lines)) <= 70
    assert "    Nothing was ever loaded or configured. Is anything tracked?" in lines


def test_a_dry_run_shows_every_step_and_qemus_command_line_without_an_image(
    lab: Lab, with_qemu: None, tmp_path: Path
) -> None:
    status, out, err = lab(
        "run", "nat-present", "pristine", "--target", "debian12", "--target", "forky", "--dry-run", "-v"
    )
    assert (status, err) == (0, "")
    lines = out.splitlines()
    cells = [line for line in lines if not line.startswith(" ")]
    assert cells == [
        *(f"{cell}@debian12" for cell in ("nat-present,iptables=legacy", "nat-present,iptables=nft", "pristine")),
        *(f"{cell}@forky" for cell in ("nat-present,iptables=legacy", "nat-present,iptables=nft", "pristine")),
    ]
    nft = "  state[0]: run iptables-nft --table nat --append POSTROUTING --out-interface eth0 --jump MASQUERADE"
    assert lines.count(nft) == 2
    assert lines.count("  set, where it exists: net.netfilter.nf_conntrack_max = 100") == 6
    assert lines.count("  load: hold 20000 connections") == 6
    assert sum(line.startswith("  boot, once: /usr/bin/qemu-system-x86_64 ") for line in lines) == 6
    restores = [line for line in lines if line.startswith("  restore: ")]
    assert len(restores) == 6
    assert all("-nic none" in line and "-incoming defer" in line for line in restores)
    assert not (tmp_path / "cache").exists()


def test_the_manifest_says_what_was_asked_for(lab: Lab) -> None:
    for more, mitigate in (((), False), (("--mitigate",), True)):
        options = read_options(command_line().parse_args(["run", "pristine", "--max", "5", *more]))
        ready = Ready(QemuProvisioner(QEMU, TCG, Deadlines()), {})
        manifest = document(manifest_of(plan_run(options), options, ready.provisioner.manifest(), ready.targets))
        assert manifest["overrides"] == {"connections": None, "max": 5, "set": [], "mitigate": mitigate}
        recorded = json.loads((GOLDEN / "results" / "manifest.json").read_text())
        assert errors({**manifest, "targets": recorded["targets"]}, "manifest") == []


def test_a_dry_run_says_that_it_would_mitigate(lab: Lab, with_qemu: None) -> None:
    plain = lab("run", "nat-present", "--dry-run")[1]
    lines = lab("run", "nat-present", "--dry-run", "--mitigate")[1].splitlines()
    more = [line for line in lines if line not in plain.splitlines()]
    assert more == 2 * ["  where conntrack is found attached: again, with what removes it after the last step"]


def test_options_reach_the_plan(lab: Lab, with_qemu: None) -> None:
    argv = ("run", "nat-present", "--set", "iptables=nft", "--connections", "7", "--max", "5", "--repeat", "2")
    _, out, _ = lab(*argv, "--dry-run")
    cells = [line for line in out.splitlines() if not line.startswith(" ")]
    assert cells == ["nat-present,iptables=nft@debian12", "nat-present,iptables=nft@debian12-r2"]
    assert "load: hold 7 connections" in out
    assert "nf_conntrack_max = 5\n" in out


# -- judging ----------------------------------------------------------------------------------------------------------


@pytest.fixture
def recorded_run(tmp_path: Path) -> Path:
    run = tmp_path / "run"
    for cell in (PRISTINE, PRESENT):
        shutil.copytree(GOLDEN / "cells" / cell, run / "cells" / cell)
    return run


def test_judging_a_run(lab: Lab, recorded_run: Path) -> None:
    status, out, err = lab("judge", str(recorded_run))
    assert (status, err) == (0, "")
    assert [line.split()[:2] for line in out.splitlines()[1:3]] == [["ok", PRESENT], ["ok", PRISTINE]]
    status, out, _ = lab("judge", str(recorded_run), "--format", "json")
    assert [cell["finding"] for cell in json.loads(out)["cells"]] == ["table-full", "untracked"]
    assert out == (recorded_run / "results.json").read_text()
    _, out, _ = lab("judge", str(recorded_run), "--format", "md")
    assert out.startswith("|  | cell | kernel |")


def test_what_was_judged_shows_how_full_the_table_was(lab: Lab, recorded_run: Path) -> None:
    header, full, untracked = lab("judge", str(recorded_run))[1].splitlines()[:3]
    assert header.endswith("seconds  entries over time")
    place = header.index("entries over time")
    assert full[place:].startswith("▁")
    assert "█" in full[place:]
    assert untracked[place:] == "-", "there was no table, which is not an empty one"


@pytest.mark.parametrize("encoding", ["ascii", "latin-1"])
def test_an_output_that_has_no_blocks(
    lab: Lab, recorded_run: Path, monkeypatch: pytest.MonkeyPatch, encoding: str
) -> None:
    raw = io.BytesIO()
    with io.TextIOWrapper(raw, encoding=encoding) as stdout:
        monkeypatch.setattr(sys, "stdout", stdout)
        assert cli.main(["judge", str(recorded_run)]) == 0
        stdout.flush()
        full = raw.getvalue().decode("ascii").splitlines()[1]
    line, seconds, unit = full.split()[-3:]
    assert (line.strip("_.:-=+*#"), unit) == ("", "s")
    assert line.startswith("_") and "#" in line and float(seconds) > 0


def expecting(run: Path, cell: str, finding: str) -> None:
    path = run / "cells" / cell / "scenario.toml"
    path.write_text(path.read_text().split("[[expect]]")[0] + f'[[expect]]\nfinding = "{finding}"\n')


def test_the_exit_status_of_what_is_judged(lab: Lab, recorded_run: Path) -> None:
    (recorded_run / "cells" / PRESENT / "evidence" / "load.json").unlink()
    status, out, _ = lab("judge", str(recorded_run))
    assert status == 3
    assert f"{PRESENT}: unclear\n  the load did not end" in out
    expecting(recorded_run, PRISTINE, "tracked")
    status, out, _ = lab("judge", str(recorded_run))
    assert status == 1
    assert f"{PRISTINE}: DIFFERS" in out


def test_a_folder_that_is_no_run(lab: Lab, tmp_path: Path) -> None:
    status, _, err = lab("judge", str(tmp_path))
    assert status == 2
    assert err.startswith(f"lab: {tmp_path}: is no run's folder (it has no cells/)\n  hint: ")


def test_a_run_of_a_newer_lab(lab: Lab, recorded_run: Path) -> None:
    (recorded_run / "results.json").write_text('{"schema_version": 7}')
    status, _, err = lab("judge", str(recorded_run))
    assert status == 2
    assert "results.json: schema_version is 7, this lab reads up to 1\n  hint: use the lab that wrote it" in err


# -- how much is told -------------------------------------------------------------------------------------------------


def test_quiet_and_verbose_exclude_each_other(lab: Lab) -> None:
    for command in (("run", "pristine"), ("shell", "pristine"), ("image", "build", "debian12")):
        status, _, err = lab(*command, "--quiet", "--verbose")
        assert status == 2
        assert "not allowed with argument" in err


@pytest.mark.parametrize(
    ("options", "words"),
    [((), ["starting"]), (("-v",), ["starting", "I: a line"]), (("--quiet",), [])],
)
def test_how_much_of_a_build_is_told(
    lab: Lab, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, options: tuple[str, ...], words: list[str]
) -> None:
    made = Image("debian12", "0" * 64, tmp_path, "6.1", {}, "")

    def build(target: Target, options: images.BuildOptions) -> Image:
        options.progress("starting")
        options.detail("I: a line")
        return made

    monkeypatch.setattr(images, "build", build)
    status, out, err = lab("image", "build", "debian12", *options)
    assert (status, err.splitlines()) == (0, words)
    assert out.startswith("debian12  000000000000  "), "what was asked for is told in any case"


def test_errors_are_told_however_quiet(lab: Lab) -> None:
    status, out, err = lab("run", "nat-presnt", "--quiet")
    assert (status, out) == (2, "")
    assert err.startswith("lab: nat-presnt: no such scenario\n  hint: ")


# -- how commands end -------------------------------------------------------------------------------------------------


def failing(error: BaseException) -> Callable[..., Any]:
    def fail(*args: Any) -> Any:
        raise error

    return fail


@pytest.mark.parametrize(
    ("error", "status", "words"),
    [
        (KeyboardInterrupt(), 130, "interrupted: what had finished is kept"),
        (ScenarioError("it is wrong", "right it"), 2, "lab: it is wrong\n  hint: right it\n"),
        (LabError("no hint"), 2, "lab: no hint\n"),
        (ExceptionGroup("", [ExceptionGroup("", [GuestLost("deep", "dig")])]), 2, "lab: deep\n  hint: dig\n"),
        (GuestLost("gone"), 2, f"lab: gone\n  hint: {ending._LOST_HINT}\n"),
        (GuestLost("gone\x1b[2J\nand away", "x"), 2, "lab: gone [2J\nand away\n  hint: x\n"),
    ],
)
def test_how_a_command_ends(
    lab: Lab, monkeypatch: pytest.MonkeyPatch, error: BaseException, status: int, words: str
) -> None:
    monkeypatch.setattr(judging, "judge_run", failing(error))
    assert lab("judge", ".") == (status, "", words if words.endswith("\n") else words + "\n")


@pytest.mark.parametrize("bug", [ZeroDivisionError(), ExceptionGroup("", [LabError("known"), ZeroDivisionError()])])
def test_a_bug_is_shown_as_a_bug_and_never_as_a_finding(
    lab: Lab, monkeypatch: pytest.MonkeyPatch, bug: Exception
) -> None:
    monkeypatch.setattr(judging, "judge_run", failing(bug))
    status, out, err = lab("judge", ".")
    assert (status, out) == (70, "")
    assert err.startswith("lab: a fault of the lab itself: ZeroDivisionError")
    assert "please report it" in err and "Traceback" not in err
    monkeypatch.setenv("LAB_TRACEBACK", "1")
    assert "ZeroDivisionError" in lab("judge", ".")[2].partition("Traceback")[2] or isinstance(bug, ExceptionGroup)


@pytest.mark.parametrize(
    ("error", "words", "hint"),
    [
        (OSError(errno.ENOSPC, "No space left on device", "/full/x"), "/full/x: No space left", "free some space"),
        (OSError(errno.EMFILE, "Too many open files"), "Too many open files", "ulimit -n 1024"),
        (ExceptionGroup("", [OSError(errno.EIO, "Input/output error")]), "Input/output error", "disk"),
        (OSError("odd"), "lab: odd", "lab doctor"),
    ],
)
def test_an_error_of_the_host_has_a_hint_and_status_2(
    lab: Lab, monkeypatch: pytest.MonkeyPatch, error: Exception, words: str, hint: str
) -> None:
    monkeypatch.setattr(judging, "judge_run", failing(error))
    status, out, err = lab("judge", ".")
    assert (status, out) == (2, "")
    assert words in err and hint in err.partition("hint: ")[2]


def test_an_output_that_nobody_reads_any_more(lab: Lab, recorded_run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    with open(writer, "w") as broken:
        monkeypatch.setattr(sys, "stdout", broken)
        assert cli.main(["judge", str(recorded_run)]) == 141
        # what is written now goes nowhere, and the interpreter's last flush meets no closed pipe
        broken.write("more")
        broken.flush()
