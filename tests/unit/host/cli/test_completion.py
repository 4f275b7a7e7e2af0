"""Completion of the command line: what follows which words, and that bash, zsh and fish really ask."""

from __future__ import annotations

import argparse
import io
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import NoReturn

import pytest
from argcomplete.finders import CompletionFinder

from lab.core.errors import PrerequisiteError
from lab.host.cli import completion
from lab.host.cli import main as cli
from lab.host.cli.main import command_line
from lab.host.images import boxes
from lab.host.images.boxes import BuiltBox
from lab.host.releases import TARGETS
from tests import ROOT
from tests.unit.pseudo_terminal import converse

HEAVY = ("matplotlib", "numpy", "jinja2", "rich")

Ask = Callable[[str], list[str]]


class Finder(CompletionFinder):
    """As the real one, but that it leaves descriptor 9 to pytest."""

    def _init_debug_stream(self) -> None:
        pass


class Ended(Exception):
    """The program would have ended."""


@pytest.fixture
def place(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A folder with two runs, a kept machine, and files."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    folder = tmp_path / "here"
    for run in ("20260101T000000Z-aaaaaa", "20260102T000000Z-bbbbbb"):
        (folder / "results" / run / "cells" / "x@debian12").mkdir(parents=True)
    (folder / "results" / run / "cells" / "x@debian12" / "machine").write_text("")
    (folder / "results" / "no-run").mkdir()
    (folder / "scenarios").mkdir()
    (folder / "scenarios" / "broken.toml").write_text("name = [")
    (folder / "scenarios" / "mine.toml").write_text('summary = "My \\u001b[31mown."\n[matrix]\nway = ["left", 2]\n')
    (folder / "mine.box").write_text("")
    (folder / ".hidden.toml").write_text("")
    monkeypatch.chdir(folder)
    return folder


@pytest.fixture
def ask(monkeypatch: pytest.MonkeyPatch, place: Path) -> Ask:
    """What may follow a line, as it is told to a shell; words with a description have it after a colon."""

    def asking(line: str) -> list[str]:
        def end(status: int) -> NoReturn:
            raise Ended(status)

        for name, value in (("_ARGCOMPLETE", "1"), ("COMP_LINE", line), ("COMP_POINT", str(len(line)))):
            monkeypatch.setenv(name, value)
        monkeypatch.setenv("_ARGCOMPLETE_SUPPRESS_SPACE", "1")
        monkeypatch.setenv("_ARGCOMPLETE_SHELL", "fish")
        parser = command_line()
        completion._attach(parser)
        out = io.StringIO()
        with pytest.raises(Ended):
            Finder()(parser, always_complete_options=False, exit_method=end, output_stream=out)
        return [word for word in out.getvalue().split("\013") if word]

    return asking


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("lab co", {"compare", "completion"}),
        ("lab completion ", {"bash", "zsh", "fish"}),
        ("lab list t", {"targets"}),
        ("lab list --format ", {"human", "json"}),
        ("lab image b", {"build"}),
        ("lab image build debian1", {"debian11", "debian12", "debian13", "debian13-backports"}),
        ("lab run --quie", {"--quiet"}),
        ("lab run --accelerator=", {f"--accelerator={one}" for one in ("auto", "kvm", "tcg")}),
        ("lab run nat-present --provi", {"--provider", "--provisioner"}),
        ("lab run pristine --connections ", set()),
        ("lab run pristine nat-flushed-", {"nat-flushed-always-on", "nat-flushed-unloaded"}),
        ("lab shell mi", {"mine"}),
        ("lab run ./", {"./results/", "./scenarios/"}),
        ("lab run ./.", {"./.hidden.toml"}),
        ("lab run scenarios/m", {"scenarios/mine.toml"}),
        ("lab run mine --target debian13-", {"debian13-backports", "debian13-cloud"}),
        ("lab run mine --target image:./m", {"image:./mine.box"}),
        ("lab image pin ubuntu24", {"ubuntu24.04"}),
        ("lab run mine --target h", {"host"}),
        ("lab run mine --target debian12+kernel:m", {"debian12+kernel:mine.box"}),
        ("lab run mine --target vagrant:./m", {"vagrant:./mine.box"}),
        ("lab run mine --kernel m", {"mine.box"}),
        ("lab run mine --kernel new=m", {"new=mine.box"}),
        ("lab run mine --kernel new=apt:bookworm-s", {"new=apt:bookworm-security"}),
        ("lab run mine --kernel apt:bookworm-s", {"apt:bookworm-security"}),
        ("lab run mine --set ", {"way=left", "way=2"}),
        ("lab run mine --set way=l", {"way=left"}),
        ("lab run nat-present --set ", {"iptables=legacy", "iptables=nft"}),
        ("lab run mine --timeouts l", {"load="}),
        ("lab run mine --timeouts boot=60,load=5,b", {"boot=60,load=5,build="}),
        ("lab judge ", {"results/20260102T000000Z-bbbbbb", "results/20260101T000000Z-aaaaaa"}),
        ("lab report s", {"scenarios/"}),
        ("lab compare results/20260101T000000Z-aaaaaa results/2026010", {f"results/{one}" for one in (
            "20260102T000000Z-bbbbbb", "20260101T000000Z-aaaaaa")}),
        ("lab compare a b --match debian12=deb", {f"debian12={one}" for one in TARGETS if one.startswith("deb")}),
        ("lab compare a b --match f", {"forky="}),
        ("lab shell --kept ", {"results/20260102T000000Z-bbbbbb/cells/x@debian12"}),
        ("lab image remove ", set()),
    ],
)  # fmt: skip
def test_what_may_follow(ask: Ask, line: str, words: set[str]) -> None:
    assert set(ask(line)) == words


def test_the_newest_run_comes_first(ask: Ask) -> None:
    assert ask("lab judge results/")[0] == "results/20260102T000000Z-bbbbbb"


def test_boxes_that_were_built_are_targets(ask: Ask, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(boxes, "list_boxes", lambda: (BuiltBox("debian12", tmp_path, "", "", "6.1"),))
    assert ask("lab run mine --target vagrant:") == ["vagrant:debian12"]
    assert "debian12" in ask("lab image remove ")


def test_a_damaged_cache_stops_nothing(ask: Ask, monkeypatch: pytest.MonkeyPatch) -> None:
    def damaged() -> NoReturn:
        raise PrerequisiteError("it is damaged", hint="hint it")

    monkeypatch.setattr(boxes, "list_boxes", damaged)
    assert ask("lab run mine --target fo") == ["forky"]
    assert ask("lab image remove ") == []


def test_what_a_word_means_is_told_as_plain_words() -> None:
    words = completion.scenario_words("")
    assert isinstance(words, Mapping)
    assert words["nat-listed"].startswith("The nat table was listed")


def test_the_description_of_a_strangers_file_is_plain(place: Path) -> None:
    words = completion.scenario_words("")
    assert isinstance(words, Mapping)
    assert (words["mine"], words["broken"]) == ("My  [31mown.", "")


def test_every_option_with_a_value_is_either_known_or_a_file(place: Path) -> None:
    """A new option is completed by files, unless the table says better: it is looked at here."""
    files = {"file", "kernel", "modules", "output", "junit", "ktap", "source", "recorder", "save", "git"}
    files |= {"keys", "cache"}  # of a fleet
    told = set(completion.COMPLETERS)
    assert free_values(command_line()) <= files | told


def free_values(parser: argparse.ArgumentParser) -> set[str]:
    found: set[str] = set()
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for inner in action.choices.values():
                found |= free_values(inner)
        elif action.choices is None and action.nargs != 0:
            found.add(action.dest)
    return found


# -- start-up ---------------------------------------------------------------------------------------------------------


def imported(argv: list[str], **environment: str) -> str:
    """The modules that a program imported, as Python lists them."""
    done = subprocess.run(
        [sys.executable, "-X", "importtime", "-m", "lab", *argv],
        env={**os.environ, **environment},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    return "\n".join(line.rpartition("|")[2].strip() for line in done.stderr.splitlines())


def names(listed: str) -> set[str]:
    return {line.partition(".")[0] for line in listed.splitlines()}


def test_no_command_waits_for_the_completion() -> None:
    assert not names(imported(["--version"])) & {"argcomplete", *HEAVY}


def test_completing_imports_nothing_heavy(tmp_path: Path) -> None:
    line = "lab report results/"
    answer = tmp_path / "answer"
    listed = names(
        imported(
            [],
            _ARGCOMPLETE="1",
            COMP_LINE=line,
            COMP_POINT=str(len(line)),
            _ARGCOMPLETE_STDOUT_FILENAME=str(answer),
        )
    )
    assert "argcomplete" in listed
    assert not listed & set(HEAVY)
    assert answer.exists()


def test_without_argcomplete_there_is_a_message(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "argcomplete.shell_integration", None)
    assert cli.main(["completion", "bash"]) == 2
    assert capsys.readouterr().err.startswith("lab: lab completion needs argcomplete, which is not installed\n  hint: ")


@pytest.mark.parametrize("shell", completion.SHELLS)
def test_every_shell_has_its_code(shell: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["completion", shell]) == 0
    assert "_ARGCOMPLETE" in capsys.readouterr().out


# -- the real shells --------------------------------------------------------------------------------------------------


@pytest.fixture
def shell_environment(place: Path, tmp_path: Path) -> dict[str, str]:
    """An environment in which `lab` is this one."""
    programs = tmp_path / "bin"
    programs.mkdir()
    root = ROOT
    program = programs / "lab"
    program.write_text(f'#!/bin/sh\nPYTHONPATH="{root}" exec "{sys.executable}" -m lab "$@"\n')
    program.chmod(0o755)
    return {
        "PATH": f"{programs}:/usr/bin:/bin",
        "HOME": str(tmp_path),
        "XDG_CACHE_HOME": str(tmp_path / "cache"),
        "TERM": "xterm",
        "PS1": "READY$ ",
        "LC_ALL": "C.UTF-8",
    }


def shell_program(name: str) -> str:
    found = shutil.which(name)
    if found is None:
        pytest.skip(f"{name} is not installed")
    return found


def test_the_tab_key_in_bash(shell_environment: dict[str, str], place: Path) -> None:
    shown = converse(
        [shell_program("bash"), "--norc", "--noprofile", "-i"],
        [
            ("READY$ ", "source <(lab completion bash)\r"),
            ("READY$ ", "lab run nat-flushed-un\t"),
            ("loaded ", "--target debian13-b\t"),
            ("ackports ", "--set iptables=n\t"),
            ("=nft ", "--timeouts lo\t"),
            ("ad=", "9; lab judge results/20260102\t"),
            ("T000000Z-bbbbbb ", ""),
        ],
        shell_environment,
        place,
    )
    assert "T000000Z-bbbbbb " in shown, shown


def test_the_tab_key_in_zsh(shell_environment: dict[str, str], place: Path) -> None:
    shown = converse(
        [shell_program("zsh"), "-f", "-i"],
        [
            ("READY$ ", "autoload -Uz compinit && compinit -D && source <(lab completion zsh) && echo TH''ERE\r"),
            ("THERE", ""),
            ("READY$ ", "lab run nat-flushed-un\t"),
            ("loaded", " --target debian13-b\t"),
            ("ackports", " --set iptables=n\t"),
            ("ft", "\x15lab run nat-flushed-\t\t"),
            ("The classic flush", ""),
        ],
        shell_environment,
        place,
    )
    assert "The classic flush" in shown, shown


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("lab run nat-flushed-un", "nat-flushed-unloaded\tA nat rule was added and flushed,"),
        ("lab run mine --set way=l", "way=left"),
        ("lab judge results/20260102", "results/20260102T000000Z-bbbbbb"),
    ],
)
def test_fish_asks(shell_environment: dict[str, str], place: Path, line: str, words: str) -> None:
    script = f"lab completion fish | source; complete --do-complete {line!r}"
    done = subprocess.run(
        [shell_program("fish"), "--no-config", "-c", script],
        env=shell_environment,
        cwd=place,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    assert words in done.stdout, (done.stdout, done.stderr)
