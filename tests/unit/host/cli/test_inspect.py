"""`lab inspect` and `lab scenario`: what they print, their exit status, and what is said of what they cannot read."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from lab.guest.recorder.archive import write_archive
from lab.host.cli.main import main
from tests.unit.core.inspecting.hosts import MASQUERADE, files, sysctl


@pytest.fixture
def record(tmp_path: Path) -> Path:
    path = tmp_path / "host.tar.gz"
    write_archive(str(path), files(own={"iptables-legacy-save": MASQUERADE, "sysctl": sysctl(1000)}))
    return path


def test_a_record_for_people_and_for_programs(record: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["inspect", "--from", str(record)]) == 1
    assert "tracked yes (ip)" in capsys.readouterr().out
    assert main(["inspect", "--from", str(record), "--format", "json"]) == 1
    assert json.loads(capsys.readouterr().out)["namespaces"][0]["tracked"] is True
    assert main(["inspect", "--from", str(record), "--format", "md"]) == 1
    assert capsys.readouterr().out.startswith("**`host: the table is full")


def test_this_host_is_read(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    saved = tmp_path / "own.tar.gz"
    status = main(["inspect", "--watch", "0", "--save", str(saved)])
    assert status in (0, 1, 3)
    assert capsys.readouterr().out.startswith("this host: Linux ")
    assert main(["inspect", "--from", str(saved)]) == status


@pytest.mark.parametrize("words", [("--watch", "0"), ("--entries",), ("--addresses",), ("--save", "x.tar.gz")], ids=str)
def test_what_is_of_this_host_alone_is_refused_beside_a_record(
    record: Path, words: tuple[str, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["inspect", "--from", str(record), *words]) == 2
    assert f"{words[0]} is of a look at this host" in capsys.readouterr().err


def test_a_scenario_is_written_and_nothing_is_overwritten(
    record: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    target = tmp_path / "mine.toml"
    argv = ["scenario", "--from", str(record), "--output", str(target)]
    assert main(argv) == 0
    assert (tmp_path / "mine.files" / "iptables-legacy.rules").read_text() == MASQUERADE
    assert "not carried over" in capsys.readouterr().err
    assert main(["run", str(target), "--dry-run"]) == 0
    assert main(argv) == 2
    assert "cannot be written" in capsys.readouterr().err


def test_a_quiet_host_is_filled_where_asked_for(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    quiet, target = tmp_path / "quiet.tar.gz", tmp_path / "mine.toml"
    write_archive(str(quiet), files(own={"iptables-legacy-save": MASQUERADE, "sysctl": sysctl(3, 65536)}))
    assert main(["scenario", "--from", str(quiet), "--output", str(tmp_path / "room.toml")]) == 0
    assert "the table is as on the host: the table has room" in capsys.readouterr().err
    assert main(["scenario", "--from", str(quiet), "--output", str(target), "--fill"]) == 0
    assert "the table is scaled with the load: asked for" in capsys.readouterr().err
    assert 'finding = "table-full"' in target.read_text()


@pytest.mark.parametrize(
    ("argv", "words"),
    [
        (["inspect", "--from", "/nowhere"], "no such record"),
        (["inspect", "--recorder", "/nowhere/x.pyz"], "cannot be written"),
        (["scenario", "--from", "/nowhere"], "no such record"),
    ],
)
def test_what_cannot_be_done_is_said(argv: list[str], words: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(argv) == 2
    assert words in capsys.readouterr().err


@pytest.mark.parametrize("seconds", ["-1", "x", "1e9", "nan"])
def test_seconds_are_seconds(seconds: str) -> None:
    with pytest.raises(SystemExit):
        main(["inspect", "--watch", seconds])
