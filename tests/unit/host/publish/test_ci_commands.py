"""The options and commands for CI on the command line: files that are asked for, and the key of a cache."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from lab.core.sums import SUMS
from lab.host import images
from lab.host.cli import main as cli
from lab.host.releases import TARGETS
from tests import ROOT
from tests.ktap_parser import parse_ktap
from tests.recordings import GOLDEN

CELLS = GOLDEN / "cells"
PRISTINE, PRESENT = "pristine@debian12", "nat-present,iptables=nft@debian13"


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.chdir(ROOT)


def lab(capsys: pytest.CaptureFixture[str], *argv: str | Path) -> tuple[int, str, str]:
    try:
        status = cli.main([*map(str, argv)])
    except SystemExit as wrong_usage:
        status = wrong_usage.code if isinstance(wrong_usage.code, int) else 1
    return status, *capsys.readouterr()


@pytest.mark.parametrize("command", ["verify", "replay", "schema", "image key"])
def test_every_command_shows_an_example(capsys: pytest.CaptureFixture[str], command: str) -> None:
    status, out, _ = lab(capsys, *command.split(), "--help")
    assert status == 0
    assert f"example: lab {command}" in " ".join(out.split())


@pytest.mark.parametrize("option", ["--junit", "--ktap"])
def test_a_file_that_cannot_be_written_is_told_before_anything_is_done(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, option: str
) -> None:
    for command in (("run", "pristine"), ("judge", tmp_path), ("replay", tmp_path)):
        status, out, err = lab(capsys, *command, option, tmp_path / "nowhere" / "file")
        assert (status, out) == (2, "")
        assert f"{option} {tmp_path}/nowhere/file: cannot be written\n  hint: " in err
    assert not (tmp_path / "cache").exists()


def test_judging_writes_the_files_again(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    run = tmp_path / "run"
    for cell in (PRISTINE, PRESENT):
        shutil.copytree(CELLS / cell, run / "cells" / cell)
    status, _, _ = lab(capsys, "judge", run, "--junit", tmp_path / "junit.xml", "--ktap", tmp_path / "out.ktap")
    assert status == 0
    tests, _ = parse_ktap((tmp_path / "out.ktap").read_text())
    assert {test.name: [one.name for one in test.subtests] for test in tests} == {
        "debian12": ["pristine"],
        "debian13": ["nat-present,iptables=nft"],
    }
    assert f"evidence: {run}/cells/{PRISTINE}" in (tmp_path / "junit.xml").read_text()
    assert not list(run.rglob(SUMS)), "nobody vouches for what was recorded before"


def test_the_key_of_an_image_changes_with_its_recipe(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    status, out, _ = lab(capsys, "image", "key", "debian1?", "forky")
    names = out.splitlines()
    assert status == 0
    assert [name.rpartition("-")[0] for name in names] == ["debian11", "debian12", "debian13", "forky"]
    assert names[1] == images.final_folder(TARGETS["debian12"]).name
    monkeypatch.setattr("lab.host.images.recipe.LAYOUT_VERSION", 99)
    assert set(lab(capsys, "image", "key", "debian1?", "forky")[1].splitlines()).isdisjoint(names)
    assert not (tmp_path / "cache").exists()


@pytest.mark.parametrize("target", ["host", "vagrant:debian12", "beos5"])
def test_what_is_no_image_has_no_key(capsys: pytest.CaptureFixture[str], target: str) -> None:
    status, out, err = lab(capsys, "image", "key", target)
    assert (status, out) == (2, "")
    assert "hint: " in err
